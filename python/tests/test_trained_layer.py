"""A layer of a published transformer on two real sentences."""

from pathlib import Path

import numpy as np
import pytest

import headwise
import reference

DATA = Path(__file__).resolve().parents[2] / "tests" / "data" / "trained-layer"


def load(name, dtype):
    return np.load(DATA / f"{name}.npy").astype(dtype)


@pytest.fixture
def arrays(dtype):
    names = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "output"}
    found = {f"{ours}_weight": load(f"weight_{theirs}", dtype) for ours, theirs in names.items()}
    found.update({f"{ours}_bias": load(f"bias_{theirs}", dtype) for ours, theirs in names.items()})
    return found


def test_output_and_weights(arrays, dtype):
    x, key_lengths = load("x", dtype), np.load(DATA / "key_lengths.npy")
    layer = headwise.MultiHeadAttention(384, 12, **arrays)
    output, weights = layer(x, key_lengths=key_lengths, need_weights=True, average_attn_weights=False)

    tokens = reference.exact(x)
    q, k, v = (
        reference.split_heads(
            reference.project(tokens, arrays[f"{n}_proj_weight"], arrays[f"{n}_proj_bias"], dtype), 12
        )
        for n in "qkv"
    )
    heads = reference.attention(q, k, v, dtype=dtype, key_lengths=key_lengths)
    expected = reference.project(
        reference.join_heads(heads.output), arrays["out_proj_weight"], arrays["out_proj_bias"], dtype
    )
    assert expected.worst_share(output) <= 1 and heads.weights.worst_share(weights) <= 1
    # The files were computed in float64 and have such errors of their own.
    factor = 2 if dtype == np.float64 else 1
    for approximate, actual, name in ((expected, output, "output"), (heads.weights, weights, "weights")):
        file = reference.Approximate(load(f"expected_{name}", np.longdouble), factor * approximate.error)
        assert file.worst_share(actual) <= 1


def test_it_attends_to_animal(arrays, dtype):
    layer = headwise.MultiHeadAttention(384, 12, **arrays)
    x, key_lengths = load("x", dtype), np.load(DATA / "key_lengths.npy")
    _, weights = layer(x, key_lengths=key_lengths, need_weights=True, average_attn_weights=False)
    assert weights[0, 1, 10, 2] == pytest.approx(0.68, abs=0.01)
