"""A call from Python costs at most 4 microseconds above the call from C++."""

import importlib.util
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[1] / "benchmarks" / "overhead.py"
CALLS = (
    "attention(x, x, x)",
    "attention(x, x, x, out=out)",
    "attention(x, x, x, causal=True, scale=0.5, num_threads=1)",
)


@pytest.fixture(scope="module")
def overhead():
    specification = importlib.util.spec_from_file_location("overhead", BENCHMARK)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", CALLS)
def test_overhead(overhead, name):
    difference = overhead.microseconds(overhead.calls()[name]) - overhead.in_cpp()
    print(f"{name}: {difference:.2f} microseconds above C++")
    assert difference <= 4
