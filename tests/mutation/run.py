#!/usr/bin/env python3
"""Plants faults in a copy of the library and expects the reduced tests to fail on each.

usage: run.py [--check] [--first N] [--count N] [NAME...]

Without names all of faults.py; --first and --count choose a stretch of them, so that short runs can take turns. The copy
has one instruction set, sse2 where there is no other, since all kernels are the same templates. --check only looks
whether every fault can still be planted.
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
WORK = ROOT / "build" / "mutation"
TREE, BUILD = WORK / "tree", WORK / "build"
LONGEST_TEST = 900  # seconds; a fault that makes the tests hang is noticed, too


def planted(text, fault):
    name, file, old, new = fault
    if text.count(old) != 1:
        sys.exit(f"{name}: {file} holds {text.count(old)} times what is to be replaced, expected once: {old}")
    return text.replace(old, new)


def copy_tree():
    """The files of the working tree that git knows, where they have changed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True
    )
    for name in listed.stdout.decode().split("\0"):
        source, target = ROOT / name, TREE / name
        if not name or not source.is_file():
            continue
        if target.is_file() and target.read_bytes() == source.read_bytes():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        shutil.copymode(source, target)


def configure(kernels):
    options = {
        "CMAKE_BUILD_TYPE": "Release",
        "HEADWISE_KERNELS": kernels,
        "HEADWISE_BUILD_BENCHMARKS": "OFF",
        "HEADWISE_BUILD_EXAMPLES": "OFF",
    }
    flags = [f"-D{name}={value}" for name, value in options.items()]
    subprocess.run(["cmake", "-G", "Ninja", "-S", TREE, "-B", BUILD, *flags], check=True, stdout=subprocess.DEVNULL)


def build():
    command = ["cmake", "--build", BUILD, "--target", "headwise_tests"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(result.stdout + result.stderr)


def failure(kernels):
    """What the reduced tests say first that is wrong; empty if nothing is."""
    environment = {
        **os.environ,
        "HEADWISE_TEST_GRID": "reduced",
        "HEADWISE_TEST_EXPECTED_ISAS": kernels,
        "OMP_WAIT_POLICY": "passive",
    }
    try:
        command = [BUILD / "bin" / "headwise_tests", "--abort-after=1", "--no-colors"]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONGEST_TEST)
    except subprocess.TimeoutExpired:
        return "the tests hang"
    if result.returncode == 0:
        return ""
    cases = [line for line in result.stdout.splitlines() if line.startswith("TEST CASE:")]
    return cases[-1].removeprefix("TEST CASE:").strip() if cases else f"ended with {result.returncode}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=len(FAULTS))
    parser.add_argument("--kernels", default="sse2")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()

    for fault in FAULTS:
        planted((ROOT / "src" / fault[1]).read_text(), fault)
    unknown = set(arguments.names) - {fault[0] for fault in FAULTS}
    if unknown:
        parser.error(f"unknown faults: {', '.join(sorted(unknown))}")
    if arguments.check:
        return print(f"{len(FAULTS)} faults can be planted")

    chosen = [FAULTS[(arguments.first + n) % len(FAULTS)] for n in range(min(arguments.count, len(FAULTS)))]
    if arguments.names:
        chosen = [fault for fault in FAULTS if fault[0] in arguments.names]
    copy_tree()
    configure(arguments.kernels)
    build()
    if wrong := failure(arguments.kernels):
        sys.exit(f"the tests fail without a fault: {wrong}")
    survivors = []
    for fault in chosen:
        file, start = TREE / "src" / fault[1], time.monotonic()
        original = file.read_text()
        file.write_text(planted(original, fault))
        try:
            build()
            noticed = failure(arguments.kernels)
        finally:
            file.write_text(original)
        print(f"{fault[0]}: {noticed or 'SURVIVES'} ({time.monotonic() - start:.0f} s)", flush=True)
        if not noticed:
            survivors.append(fault[0])
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} faults noticed")
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
