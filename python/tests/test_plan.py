"""AttentionPlan: what attention() computes, prepared once."""

import numpy as np
import pytest

import headwise

EXTENTS = dict(batch=2, num_heads=4, num_kv_heads=2, query_length=5, key_length=7, head_dim=8, value_dim=3)


@pytest.fixture
def arrays(generator, dtype):
    shapes = ((2, 4, 5, 8), (2, 2, 7, 8), (2, 2, 7, 3))
    return [generator.normal(size=shape).astype(dtype) for shape in shapes]


def test_a_plan_computes_what_attention_computes(arrays, dtype):
    plan = headwise.AttentionPlan(**EXTENTS, dtype=dtype, causal=True, scale=0.5, return_scores="biased")
    run = dict(key_lengths=[7, 3], return_logsumexp=True, return_weights=True)
    expected = headwise.attention(*arrays, **run, causal=True, scale=0.5, return_scores="biased")
    for _ in range(2):
        for got, wanted in zip(plan.run(*arrays, **run), expected):
            np.testing.assert_array_equal(got, wanted)


def test_fewer_keys_than_planned(arrays, dtype):
    plan = headwise.AttentionPlan(**EXTENTS, dtype=dtype)
    query, key, value = arrays
    np.testing.assert_array_equal(
        plan.run(query, key[:, :, :4], value[:, :, :4]), headwise.attention(query, key[:, :, :4], value[:, :, :4])
    )


def test_out(arrays, dtype):
    plan = headwise.AttentionPlan(**EXTENTS, dtype=dtype)
    out = np.zeros((2, 4, 5, 3), dtype)
    assert plan.run(*arrays, out=out) is out
    np.testing.assert_array_equal(out, headwise.attention(*arrays))


def test_defaults_and_path():
    plan = headwise.AttentionPlan(batch=1, num_heads=2, query_length=100, key_length=100, head_dim=16)
    query = np.ones((1, 2, 100, 16), np.float32)
    assert plan.run(query, query, query).shape == query.shape
    assert plan.path(100) == "query_tile" and plan.path(1, row=0) == "row_dot"


@pytest.mark.parametrize(
    "kind, named, change",
    [
        (ValueError, "head_dim", dict(head_dim=0)),
        (ValueError, "num_kv_heads", dict(num_kv_heads=3)),
        (ValueError, "batch", dict(batch=-1)),
        (ValueError, "softcap", dict(softcap=-1)),
        (TypeError, "batch", dict(batch="2")),
        (TypeError, "dtype", dict(dtype="float16")),
        (TypeError, "dtype", dict(dtype="nonsense")),
        (TypeError, "mask", dict(mask=np.ones((5, 7), bool))),
    ],
)
def test_bad_plans(kind, named, change):
    with pytest.raises(kind, match=named):
        headwise.AttentionPlan(**{**EXTENTS, **change})


def test_bad_runs(arrays, dtype):
    plan = headwise.AttentionPlan(**EXTENTS, dtype=dtype)
    query, key, value = arrays
    other = np.float64 if dtype == np.float32 else np.float32
    with pytest.raises(TypeError, match="query"):
        plan.run(query.astype(other), key, value)
    with pytest.raises(TypeError, match="causal"):
        plan.run(query, key, value, causal=True)
    with pytest.raises(ValueError, match="query"):
        plan.run(query[:, :, :4], key, value)
