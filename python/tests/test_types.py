"""The type stubs: checked by mypy, and the same parameters as the functions they describe."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

import headwise
from headwise import _headwise, _types

PACKAGE = Path(headwise.__file__).parent
HERE = Path(__file__).parent


def mypy(*arguments):
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--cache-dir=/dev/null", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=HERE)


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").exists()
    result = mypy("-p", "headwise")
    assert result.returncode == 0, result.stdout + result.stderr


def test_good_use_passes_and_bad_use_is_found():
    result = mypy(str(HERE / "typed_use.py"))
    errors = {int(line) for line in re.findall(r"typed_use\.py:(\d+): error", result.stdout)}
    source = (HERE / "typed_use.py").read_text().splitlines()
    expected = {number for number, line in enumerate(source, 1) if line.endswith("# error")}
    assert expected and errors == expected, result.stdout + result.stderr


def signatures():
    """Functions and methods of the extension as their docstrings give them, by qualified names."""
    for name, item in vars(_headwise).items():
        if name.startswith("_"):
            continue
        if inspect.isclass(item):
            methods = {n: m for n, m in vars(item).items() if n == "__init__" or not n.startswith("_")}
            yield from ((f"{name}.{n}", m.__doc__) for n, m in methods.items() if callable(m))
        else:
            yield name, item.__doc__


def parameters(definition):
    """Names of a signature; keyword options that the stub takes from a TypedDict under their own names."""
    arguments = definition.args
    names = {a.arg for a in arguments.args + arguments.kwonlyargs}
    if arguments.kwarg is not None:
        names.update(get_type_hints(getattr(_types, arguments.kwarg.annotation.slice.id)))
    return names


def stubs():
    tree = ast.parse((PACKAGE / "_headwise.pyi").read_text())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for method in node.body:
                decorators = {decorator.id for decorator in method.decorator_list}
                if "property" not in decorators:
                    yield f"{node.name}.{method.name}", method


def test_stubs_have_the_functions_parameters():
    documented = dict(signatures())
    checked = set()
    for name, stub in stubs():
        if name.startswith("_"):
            continue
        text = documented[name].split("\n")[0]
        definition = ast.parse(f"def {text.removeprefix('def ')}: ...").body[0]
        assert parameters(definition) == parameters(stub), name
        checked.add(name)
    assert checked == set(documented)


@pytest.mark.parametrize("name", headwise.__all__)
def test_everything_public_is_documented(name):
    assert getattr(headwise, name).__doc__.strip()
