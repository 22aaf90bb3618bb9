#!/usr/bin/env python3
"""Says how much of src/ the tests reached, and fails where that is too little.

usage: report.py COVERAGE

COVERAGE is what `gcovr --json` wrote. All lines that check arguments must have run; of the rest 95 % of the lines and
90 % of the branches. Lines that no test can reach are listed in unreached.txt with the reason; lines that are neither
reached nor listed are an error, and so are listed lines that were reached.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UNREACHED = Path(__file__).with_name("unreached.txt")
LINES_OF_REST, BRANCHES_OF_REST = 95, 90  # per cent


def checks_arguments(file):
    return file.startswith("src/api/validate") or file == "src/api/overlap.cpp"


def listed():
    """{(file, text of the line): reason}"""
    entries = {}
    for line in UNREACHED.read_text().splitlines():
        if line and not line.startswith("#"):
            file, text, reason = (part.strip() for part in line.split(" | "))
            entries[file, text] = reason
    return entries


def share(part, whole):
    return 100.0 if whole == 0 else 100.0 * part / whole


def main():
    coverage = json.loads(Path(sys.argv[1]).read_text())
    counts = defaultdict(lambda: [0, 0, 0, 0])  # lines reached, lines, branches taken, branches
    unreached = []
    for entry in coverage["files"]:
        file = entry["file"]
        if not file.startswith("src/"):
            continue
        source = (ROOT / file).read_text().splitlines()
        count = counts[file]
        lines = defaultdict(int)
        branches = defaultdict(lambda: defaultdict(int))
        for line in entry["lines"]:  # one for each instance of a template
            if line.get("gcovr/excluded") or line.get("gcovr/noncode"):
                continue
            number = line["line_number"]
            lines[number] += line["count"]
            for at, branch in enumerate(line.get("branches", [])):
                branches[number][at] += branch["count"]
        for number, executed in sorted(lines.items()):
            count[0] += executed > 0
            count[1] += 1
            if executed == 0:
                unreached.append((file, number, source[number - 1].strip()))
            else:
                count[2] += sum(taken > 0 for taken in branches[number].values())
                count[3] += len(branches[number])
    good = bool(counts)
    for name, chosen, lines_wanted, branches_wanted in (
        ("checks of arguments", lambda file: checks_arguments(file), 100, 0),
        ("the rest", lambda file: not checks_arguments(file), LINES_OF_REST, BRANCHES_OF_REST),
    ):
        reached, lines, taken, branches = (sum(c[n] for f, c in counts.items() if chosen(f)) for n in range(4))
        print(f"{name}: {reached} of {lines} lines ({share(reached, lines):.1f} %, at least {lines_wanted} wanted), "
              f"{taken} of {branches} branches ({share(taken, branches):.1f} %, at least {branches_wanted} wanted)")
        good = good and share(reached, lines) >= lines_wanted and share(taken, branches) >= branches_wanted
    for file, (reached, lines, taken, branches) in sorted(counts.items()):
        if reached < lines or taken < branches:
            print(f"  {file}: lines {reached}/{lines}, branches {taken}/{branches}")
    entries = listed()
    for file, number, text in unreached:
        reason = entries.get((file, text))
        print(f"{file}:{number}: {text}: {reason or 'NOT REACHED'}")
        good = good and reason is not None
    for file, text in set(entries) - {(file, text) for file, _, text in unreached}:
        print(f"{UNREACHED.name} lists what is reached or gone: {file} | {text}")
        good = False
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
