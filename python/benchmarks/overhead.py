"""What a call from Python costs above the same call from C++, on the smallest attention: one query, one key.

python python/benchmarks/overhead.py
"""

from __future__ import annotations

import sys
import timeit
from typing import Any, Callable

import numpy as np

import headwise
from headwise import _headwise

# Rounds of less than a millisecond: beside other work some still run from end to end.
REPEATS, ROUNDS = 200, 500


def microseconds(call: Callable[[], Any]) -> float:
    """The fastest of many rounds: the others were disturbed."""
    return min(timeit.repeat(call, number=REPEATS, repeat=ROUNDS)) / REPEATS * 1e6


def calls() -> dict[str, Callable[[], Any]]:
    x = np.ones((1, 1, 1, 8), np.float32)
    out = np.empty_like(x)
    plan = headwise.AttentionPlan(batch=1, num_heads=1, query_length=1, key_length=1, head_dim=8)
    found: dict[str, Callable[[], Any]] = {
        "attention(x, x, x)": lambda: headwise.attention(x, x, x),
        "attention(x, x, x, out=out)": lambda: headwise.attention(x, x, x, out=out),
        "attention(x, x, x, causal=True, scale=0.5, num_threads=1)": lambda: headwise.attention(
            x, x, x, causal=True, scale=0.5, num_threads=1
        ),
        "plan.run(x, x, x)": lambda: plan.run(x, x, x),
        "scaled_dot_product_attention(x, x, x)": lambda: headwise.scaled_dot_product_attention(x, x, x),
    }
    if "torch" in sys.modules:
        t = sys.modules["torch"].from_numpy(x)
        found["attention(t, t, t) of torch tensors"] = lambda: headwise.attention(t, t, t)
    return found


def in_cpp() -> float:
    return min(_headwise._time_attention(REPEATS) for _ in range(ROUNDS)) * 1e6


def main() -> None:
    if "--torch" in sys.argv:
        import torch  # noqa: F401
    base = in_cpp()
    print(f"C++ attention: {base:.2f} microseconds")
    for name, call in calls().items():
        took = microseconds(call)
        print(f"{name}: {took:.2f} microseconds, {took - base:.2f} above C++")


if __name__ == "__main__":
    main()
