"""What the installed onnx package specifies against what headwise.onnx implements, so that a new release is noticed.

How the operators behave is compared case by case in test_onnx.py; here are their versions, names, defaults, types and the
text itself, whose digest is of what was read when the operator was implemented.
"""

import hashlib
import inspect

import numpy as np
import pytest
from onnx import defs, helper

import headwise

OPERATORS = {"Attention": headwise.onnx.attention, "RotaryEmbedding": headwise.onnx.rotary_embedding}
OUR_OWN = {"num_outputs", "num_threads"}  # parameters that are no attributes

DIGESTS = {
    ("Attention", 23): "be1aac94177ad61a",
    ("Attention", 24): "4abb448a6a3ec676",
    ("Attention", 25): "2903ed02399ba113",
    ("RotaryEmbedding", 23): "ad665e700f0f842b",
}
# (operator, attribute): (default in the specification, ours)
OTHER_DEFAULTS = {("RotaryEmbedding", "num_heads"): (None, 0)}  # 0 = not given, too
FLOATS = {"tensor(float)", "tensor(double)"}
CONVERTED_BY_CALLERS = {"tensor(float16)", "tensor(bfloat16)"}
# Masks that the specification allows and headwise refuses by name.
REFUSED_MASKS = {f"tensor({sign}int{bits})" for sign in ("", "u") for bits in (8, 16, 32, 64)}


def versions(operator):
    history = defs.get_all_schemas_with_history()
    return {schema.since_version for schema in history if schema.name == operator and schema.domain == ""}


def newest(operator):
    return defs.get_schema(operator, max(versions(operator)), "")


def parameters(operator, kind):
    signature = inspect.signature(OPERATORS[operator])
    return {name: each.default for name, each in signature.parameters.items() if each.kind == kind}


def digest(schema):
    """Of all the text that says what an operator does."""
    parts = [schema.doc]
    parts += [f"{name}: {attribute.description}" for name, attribute in sorted(schema.attributes.items())]
    parts += [f"{each.name}: {each.description}" for each in (*schema.inputs, *schema.outputs)]
    return hashlib.sha256("\n".join(" ".join(part.split()) for part in parts).encode()).hexdigest()[:16]


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_versions_are_those_implemented(operator):
    assert versions(operator) == {version for name, version in DIGESTS if name == operator}


@pytest.mark.parametrize("operator, version", DIGESTS)
def test_the_text_is_the_one_implemented(operator, version):
    schema = defs.get_schema(operator, version, "")
    assert digest(schema) == DIGESTS[operator, version], f"read {operator}-{version} again: its text has changed"


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_attributes_are_ours(operator):
    ours = parameters(operator, inspect.Parameter.KEYWORD_ONLY)
    theirs = newest(operator).attributes
    assert set(theirs) == set(ours) - OUR_OWN
    for name, attribute in theirs.items():
        given = attribute.default_value.name != ""
        default = helper.get_attribute_value(attribute.default_value) if given else None
        assert (default, ours[name]) == OTHER_DEFAULTS.get((operator, name), (default, default)), name
        assert not attribute.required, name


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_inputs_are_ours(operator):
    ours = parameters(operator, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    theirs = newest(operator).inputs
    assert [each.name for each in theirs] == list(ours)
    for each in theirs:
        optional = each.option == defs.OpSchema.FormalParameterOption.Optional
        assert optional == (ours[each.name] is None), each.name


def test_the_outputs_are_ours():
    names = [each.name for each in newest("Attention").outputs]
    assert names == ["Y", "present_key", "present_value", "qk_matmul_output"]
    assert [each.name for each in newest("RotaryEmbedding").outputs] == ["Y"]


def test_the_types_are_ours_but_for_the_named_ones():
    attention = {each.type_param_str: set(each.allowed_type_strs) for each in newest("Attention").type_constraints}
    assert attention == {
        "T1": FLOATS | CONVERTED_BY_CALLERS,
        "T2": FLOATS | CONVERTED_BY_CALLERS,
        "U": FLOATS | CONVERTED_BY_CALLERS | {"tensor(bool)"} | REFUSED_MASKS,
    }
    rotary = {each.type_param_str: set(each.allowed_type_strs) for each in newest("RotaryEmbedding").type_constraints}
    assert rotary == {"T": FLOATS - {"tensor(double)"} | CONVERTED_BY_CALLERS, "M": {"tensor(int64)"}}


@pytest.mark.parametrize("kind", sorted(REFUSED_MASKS))
def test_a_mask_of_integers_is_refused_by_name(kind):
    q = np.ones((1, 1, 2, 4), np.float32)
    with pytest.raises(TypeError, match="attn_mask"):
        headwise.onnx.attention(q, q, q, np.ones((2, 2), kind.removeprefix("tensor(").removesuffix(")")))
