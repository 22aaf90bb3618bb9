#!/usr/bin/env python3
"""Plants faults in a copy of the library and expects the reduced tests to fail on each.

usage: run.py [--check] [--turns COUNT] [NAME...]

Without names all of faults.py. --turns takes COUNT of them, every hour the next ones, so that short runs take turns.
--check only looks whether every fault can still be planted.

The copy has one instruction set, sse2 where there is no other, since all kernels are the same templates. It is compiled
as by the preset `debug`, in folders that lie to each other as there: with ccache only what the faults touch is compiled.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from faults import FAULTS

ROOT = Path(__file__).resolve().parents[2]
TREE = ROOT / "build" / "mutation"
BUILD = TREE / "build" / "debug"
LONGEST_TEST = 1800  # seconds; a fault that makes the tests hang is noticed, too

# The tests that most likely notice a fault in a folder of src/; all others come after them.
FIRST_TESTS = {
    "api": "*validate*,*errors*,*kv_cache_test*,*rotary*",
    "drivers": "*attention_exact*,*attention_outputs*,*attention_ragged*,*kv_cache*,*merge*",
    "kernels": "*kernels/*",
    "plan": "*plan/*,*attention_exclusion*",
}


def place(root, fault):
    """The file to plant a fault in, and its text; an error where that is not exactly one."""
    name, pattern, old, _ = fault
    texts = {file: file.read_text() for file in sorted((root / "src").glob(pattern))}
    times = sum(text.count(old) for text in texts.values())
    if times != 1:
        raise ValueError(f"{name}: src/{pattern} holds {times} times what is to be replaced, expected once: {old}")
    return next((file, text) for file, text in texts.items() if old in text)


def planted(text, fault):
    # What a fault leaves unused is no news.
    quiet = "".join(f'#pragma GCC diagnostic ignored "-Wunused{kind}"\n' for kind in ("", "-parameter"))
    return quiet + text.replace(fault[2], fault[3])


def copy_tree():
    """The files of the working tree that git knows, where they have changed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True
    )
    names = set(listed.stdout.decode().split("\0"))
    for left_over in [file for file in TREE.glob("src/*/*") if str(file.relative_to(TREE)) not in names]:
        left_over.unlink()
    for name in names:
        source, target = ROOT / name, TREE / name
        if not name or not source.is_file():
            continue
        if target.is_file() and target.read_bytes() == source.read_bytes():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        shutil.copymode(source, target)


def cmake(*arguments):
    environment = {**os.environ, "CCACHE_BASEDIR": str(TREE), "CCACHE_NOHASHDIR": "1"}
    result = subprocess.run(["cmake", *arguments], cwd=TREE, env=environment, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(result.stdout + result.stderr)


def build():
    cmake("--build", BUILD, "--target", "headwise_tests")


def first_failure(kernels, *filters):
    """What the reduced tests say first that is wrong; empty if nothing is."""
    environment = {
        **os.environ,
        "HEADWISE_TEST_GRID": "reduced",
        "HEADWISE_TEST_EXPECTED_ISAS": kernels,
        "OMP_WAIT_POLICY": "passive",
    }
    try:
        command = [BUILD / "bin" / "headwise_tests", "--abort-after=1", "--no-colors", *filters]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONGEST_TEST)
    except subprocess.TimeoutExpired:
        return "the tests hang"
    if result.returncode == 0:
        return ""
    cases = [line for line in result.stdout.splitlines() if line.startswith("TEST CASE:")]
    return cases[-1].removeprefix("TEST CASE:").strip() if cases else f"ended with {result.returncode}"


def failure(kernels, folder):
    first = FIRST_TESTS[folder]
    return first_failure(kernels, f"--source-file={first}") or first_failure(kernels, f"--source-file-exclude={first}")


def whose_turn_it_is(count):
    first = count * int(time.time() // 3600)
    return [FAULTS[(first + n) % len(FAULTS)] for n in range(min(count, len(FAULTS)))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--turns", type=int, metavar="COUNT")
    parser.add_argument("--kernels", default="sse2")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()

    wrong = []
    for fault in FAULTS:
        try:
            place(ROOT, fault)
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        sys.exit("\n".join(wrong))
    unknown = set(arguments.names) - {fault[0] for fault in FAULTS}
    if unknown:
        parser.error(f"unknown faults: {', '.join(sorted(unknown))}")
    if arguments.check:
        return print(f"{len(FAULTS)} faults can be planted")

    chosen = FAULTS if arguments.turns is None else whose_turn_it_is(arguments.turns)
    if arguments.names:
        chosen = [fault for fault in FAULTS if fault[0] in arguments.names]
    copy_tree()
    # A warning about a fault is none of the tests'.
    kernels = f"-DHEADWISE_KERNELS={arguments.kernels}"
    cmake("--preset", "debug", kernels, "-DHEADWISE_BUILD_EXAMPLES=OFF", "-DHEADWISE_WERROR=OFF")
    build()
    if wrong := first_failure(arguments.kernels):
        sys.exit(f"the tests fail without a fault: {wrong}")
    survivors = []
    for fault in chosen:
        (file, original), start = place(TREE, fault), time.monotonic()
        file.write_text(planted(original, fault))
        try:
            build()
            built = time.monotonic()
            noticed = failure(arguments.kernels, Path(fault[1]).parts[0])
        finally:
            file.write_text(original)
        times = f"built in {built - start:.0f} s, tested in {time.monotonic() - built:.0f} s"
        print(f"{fault[0]}: {noticed or 'SURVIVES'} ({times})", flush=True)
        if not noticed:
            survivors.append(fault[0])
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} faults noticed")
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
