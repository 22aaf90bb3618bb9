#!/usr/bin/env python3
"""Says how much of src/ the tests reached, and fails where that is too little.

usage: report.py TEXT LCOV

TEXT and LCOV are what `llvm-cov export` wrote in these formats; instances of a template count as one. All lines that
check arguments must have run; of the rest 95 % of the lines and 90 % of the branches. Lines that no test can reach are
listed in unreached.txt with the reason; lines that are neither reached nor listed are an error, and so are listed lines
that were reached.
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
    """{(file, number of the line): reason}"""
    entries = {}
    for line in UNREACHED.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        file, first, last, reason = (part.strip() for part in line.split(" | "))
        source = [text.strip() for text in (ROOT / file).read_text().splitlines()]
        if source.count(first) != 1 or last not in source[source.index(first) :]:
            sys.exit(f"{UNREACHED.name}: {file} has no lines {first} … {last}, or several")
        begin = source.index(first)
        entries.update({(file, number + 1): reason for number in range(begin, source.index(last, begin) + 1)})
    return entries


def share(part, whole):
    return 100.0 if whole == 0 else 100.0 * part / whole


def lines_of(lcov):
    """{file: {line: how often it ran}}"""
    lines = defaultdict(dict)
    for entry in Path(lcov).read_text().splitlines():
        kind, _, rest = entry.partition(":")
        if kind == "SF":
            file = str(Path(rest).resolve().relative_to(ROOT))
        elif kind == "DA":
            number, count = rest.split(",")
            lines[file][int(number)] = int(count)
    return lines


def branches_of(text):
    """{file: {place: [how often it was true, and false]}}"""
    branches = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for entry in json.loads(Path(text).read_text())["data"][0]["files"]:
        file = str(Path(entry["filename"]).resolve().relative_to(ROOT))
        for *place, true, false, _, _, _ in entry["branches"]:  # one for each instance of a template
            outcomes = branches[file][tuple(place)]
            outcomes[0] += true
            outcomes[1] += false
    return branches


def main():
    lines, branches = lines_of(sys.argv[2]), branches_of(sys.argv[1])
    counts = {}  # lines reached, lines, branches taken, branches
    unreached = []
    for file, executed in lines.items():
        if not file.startswith("src/"):
            continue
        taken = [count > 0 for outcomes in branches[file].values() for count in outcomes]
        counts[file] = (sum(count > 0 for count in executed.values()), len(executed), sum(taken), len(taken))
        unreached += [(file, n) for n, count in sorted(executed.items()) if count == 0]
    good = bool(counts)
    for name, chosen, lines_wanted, branches_wanted in (
        ("checks of arguments", lambda file: checks_arguments(file), 100, 0),
        ("the rest", lambda file: not checks_arguments(file), LINES_OF_REST, BRANCHES_OF_REST),
    ):
        reached, all_lines, taken, outcomes = (sum(c[n] for f, c in counts.items() if chosen(f)) for n in range(4))
        line_share, branch_share = share(reached, all_lines), share(taken, outcomes)
        print(f"{name}: {reached} of {all_lines} lines ({line_share:.1f} %, at least {lines_wanted} wanted), "
              f"{taken} of {outcomes} branches ({branch_share:.1f} %, at least {branches_wanted} wanted)")
        good = good and line_share >= lines_wanted and branch_share >= branches_wanted
    for file, (reached, all_lines, taken, outcomes) in sorted(counts.items()):
        if reached < all_lines or taken < outcomes:
            print(f"  {file}: lines {reached}/{all_lines}, branches {taken}/{outcomes}")
    entries = listed()
    for file, number in unreached:
        reason = entries.get((file, number))
        print(f"{file}:{number}: {reason or 'NOT REACHED'}")
        good = good and reason is not None
    for file, number in entries:
        if lines[file].get(number, 0) > 0:
            print(f"{file}:{number}: reached, though {UNREACHED.name} lists it")
            good = False
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
