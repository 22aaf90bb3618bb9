#!/usr/bin/env python3
"""Writes seeds for the fuzz target `attention` that ask for what ONNX's conformance cases ask for.

usage: conformance_seeds.py CASES SEEDS

CASES holds a folder with a case.json for each case. The target knows fewer sizes, scales and caps than the cases have;
the nearest are taken, and cases that come to the same bytes make one seed.
"""

import json
import sys
from pathlib import Path

# As in problem.hpp.
QUERY_LENGTHS = [1, 2, 3, 4, 5, 8, 13, 17, 33, 66, 130, 0]
DIMS = [1, 2, 3, 7, 8, 16, 17, 33, 64, 129]
BOUNDS = [-1, 0, 3, 20, 150]
BHSD, BSHD = 0, 1
TOP_LEFT, BOTTOM_RIGHT, GIVEN = 0, 1, 2


def nearest(choices, wanted):
    return min(range(len(choices)), key=lambda at: abs(choices[at] - wanted))


def large(number):
    """What Bytes::below(count) reads for counts beyond 256."""
    return [number // 256, number % 256]


def seed(case):
    attributes = case["attributes"]
    inputs = {entry["role"]: entry for entry in case["inputs"]}
    shapes = {role: entry["shape"] for role, entry in inputs.items()}
    heads, kv_heads = attributes.get("q_num_heads"), attributes.get("kv_num_heads")
    in_tokens = len(shapes["Q"]) == 3

    def of_heads(role, count):  # [batch, heads, length, dim]
        shape = shapes[role]
        return [shape[0], count, shape[1], shape[2] // count] if in_tokens else shape

    batch, heads, queries, dim = of_heads("Q", heads)
    _, kv_heads, keys, value_dim = of_heads("V", kv_heads)
    past = shapes["past_key"][2] if "past_key" in shapes else 0
    mask = inputs.get("attn_mask")
    varies = [0] * 4
    if mask:
        extents = [1] * (4 - len(mask["shape"])) + mask["shape"]
        varies = [int(extent > 1) for extent in extents]
    excludes = bool(mask) and mask["dtype"] == "bool"
    lengths = "nonpad_kv_seqlen" in inputs
    window = [attributes.get("left_window_size", -1), attributes.get("right_window_size", -1)]
    mode = attributes.get("qk_matmul_output_mode", 0 if "qk_matmul" in case["name"] else None)
    position = GIVEN if past else BOTTOM_RIGHT if lengths else TOP_LEFT
    scale, softcap = attributes.get("scale"), attributes.get("softcap", 0)

    data = [int(inputs["Q"]["dtype"] == "f64")]
    group = heads // kv_heads
    data += [min(kv_heads, 2) - 1, batch - 1, min(group, 3) - 1, nearest(QUERY_LENGTHS, queries), *large(past + keys)]
    data += [nearest(DIMS, dim), 1, value_dim]
    data += [BSHD if in_tokens else BHSD, 0, 1, int(mode == 3), 0]  # placement, logsumexp, weights, mean weights
    data += [0 if mode in (None, 3) else mode + 1, int(scale is not None), 0 if not softcap else 1]
    data += [attributes.get("is_causal", 0), int(window != [-1, -1])]
    data += [nearest(BOUNDS, bound) for bound in window] if window != [-1, -1] else []
    data += [position, int(excludes), *(varies if excludes else [])]
    data += [1, *varies] if mask and not excludes else [0]
    data += [0, 0, 0]  # key padding mask, ALiBi, sinks
    data += (large(past + 100) if past else []) * batch if position == GIVEN else []
    data += [0, *[keys - (b + 1) % 3 for b in range(batch)]] if lengths else [3]
    return bytes(data + [7, 0, 0])  # numbers, no special ones, nothing to refuse


def main():
    cases, seeds = Path(sys.argv[1]), Path(sys.argv[2])
    written = set()
    for file in sorted(cases.glob("*/case.json")):
        case = json.loads(file.read_text())
        data = seed(case)
        if data not in written:
            (seeds / case["name"].removeprefix("test_").replace("_", "-")).write_bytes(data)
        written.add(data)
    print(f"{len(written)} seeds")


if __name__ == "__main__":
    main()
