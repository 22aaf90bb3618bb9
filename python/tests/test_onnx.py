"""Every case of Attention and RotaryEmbedding that the installed onnx package generates; bad input of the operators."""

import ml_dtypes
import numpy as np
import pytest

import headwise
from onnx_cases import HALF_TYPES, as_type, cases, computed, evaluated

ALL = cases()
INEXPRESSIBLE = ()  # names of cases that headwise cannot compute: none


def test_there_are_cases_of_both_operators_and_every_opset():
    found = {(case.node.op_type, case.opset) for case in ALL}
    assert {("Attention", 23), ("Attention", 24), ("Attention", 25), ("RotaryEmbedding", 23)} <= found
    assert len(ALL) >= 101 and len({case.name for case in ALL}) == len(ALL)
    assert set(INEXPRESSIBLE) <= {case.name for case in ALL}


def assert_close(actual, expected, rtol, atol):
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("case", [case for case in ALL if case.name not in INEXPRESSIBLE], ids=lambda case: case.name)
def test_the_case_holds(case):
    """In float32 within the case's tolerances, halves computed in float32 and rounded."""
    rtol, atol = case.rtol, case.atol
    if case.storage in HALF_TYPES:  # onnx rounds every step of the expectation to the type
        atol = float(ml_dtypes.finfo(case.storage).eps)
    results = computed(case, np.float32)
    assert set(results) == set(case.outputs)
    for name, expected in case.outputs.items():
        if case.storage in HALF_TYPES and expected.dtype == case.storage:
            results[name] = results[name].astype(case.storage)
        assert_close(as_type(results[name], np.float64), as_type(expected, np.float64), rtol, atol)


@pytest.mark.parametrize("case", [case for case in ALL if case.name not in INEXPRESSIBLE], ids=lambda case: case.name)
def test_the_reference_evaluator_agrees_in_float64(case):
    tolerance = 1e-13
    if "scale" in case.attributes:
        tolerance = 1e-9  # the evaluator takes the root of the scale in float32
    if "softmax_precision" in case.attributes:
        tolerance = 1e-6  # the evaluator computes this softmax in float32
    results, expected = computed(case, np.float64), evaluated(case, np.float64)
    assert set(results) == set(expected)
    for name in expected:
        assert_close(results[name], as_type(expected[name], np.float64), tolerance, tolerance)


def tensors(dtype=np.float32):
    return dict(Q=np.ones((2, 4, 3, 8), dtype), K=np.ones((2, 2, 5, 8), dtype), V=np.ones((2, 2, 5, 6), dtype))


def test_outputs_are_computed_on_demand():
    y, present_key, present_value, scores = headwise.onnx.attention(**tensors(), num_outputs=1)
    assert y.shape == (2, 4, 3, 6) and present_key is present_value is scores is None
    y, present_key, present_value, scores = headwise.onnx.attention(**tensors(), num_outputs=3)
    assert present_key.shape == (2, 2, 5, 8) and present_value.shape == (2, 2, 5, 6) and scores is None


@pytest.mark.parametrize(
    "kind, named, change",
    [
        (TypeError, "Q", dict(Q=[1])),
        (TypeError, "Q", dict(Q=np.ones((2, 4, 3, 8), np.float16))),
        (TypeError, "K", dict(K=np.ones((2, 2, 5, 8)))),
        (TypeError, "attn_mask", dict(attn_mask=np.ones((3, 5), np.int64))),
        (TypeError, "nonpad_kv_seqlen", dict(nonpad_kv_seqlen=np.ones(2))),
        (TypeError, "is_causal", dict(is_causal="yes")),
        (TypeError, "scale", dict(scale="1")),
        (ValueError, "Q", dict(Q=np.ones((3, 8), np.float32))),
        (ValueError, "Q", dict(Q=np.ones((1, 2, 4, 3, 8), np.float32))),
        (ValueError, "past_value", dict(past_key=np.ones((2, 2, 1, 8), np.float32))),
        (ValueError, "nonpad_kv_seqlen", dict(nonpad_kv_seqlen=np.array([1, 6]))),
        (ValueError, "attn_mask", dict(attn_mask=np.ones((4, 5), bool))),
        (ValueError, "qk_matmul_output_mode", dict(qk_matmul_output_mode=4)),
        (ValueError, "softmax_precision", dict(softmax_precision=2)),
        (ValueError, "num_outputs", dict(num_outputs=5)),
        (ValueError, "left_window_size", dict(left_window_size=2**70)),
    ],
)
def test_bad_attention(kind, named, change):
    with pytest.raises(kind, match=named):
        headwise.onnx.attention(**{**tensors(), **change})


@pytest.mark.parametrize("batch, sequence", [(2, 0), (0, 3), (0, 0)])
@pytest.mark.parametrize("heads_apart", [True, False])
def test_rotary_embedding_of_no_tokens(batch, sequence, heads_apart):
    x = np.ones((batch, 3, sequence, 4) if heads_apart else (batch, sequence, 12))
    cache = np.ones((batch, sequence, 2))
    assert headwise.onnx.rotary_embedding(x, cache, cache, num_heads=3).shape == x.shape


@pytest.mark.parametrize(
    "kind, named, change",
    [
        (TypeError, "X", dict(X=[1])),
        (TypeError, "cos_cache", dict(cos_cache=np.ones((2, 3, 4), int))),
        (ValueError, "X", dict(X=np.ones((3, 8)))),
        (ValueError, "num_heads", dict(X=np.ones((2, 3, 8)), num_heads=3)),
        (ValueError, "cos_cache", dict(cos_cache=np.ones((3, 4)))),
        (ValueError, "sin_cache", dict(sin_cache=np.ones((2, 2, 4)))),
        (TypeError, "position_ids", dict(position_ids=np.ones((2, 3)))),
        (ValueError, "number of axes of cos", dict(position_ids=np.ones((2, 3), int))),
    ],
)
def test_bad_rotary_embedding(kind, named, change):
    call = dict(X=np.ones((2, 4, 3, 8)), cos_cache=np.ones((2, 3, 4)), sin_cache=np.ones((2, 3, 4)))
    with pytest.raises(kind, match=named):
        headwise.onnx.rotary_embedding(**{**call, **change})
