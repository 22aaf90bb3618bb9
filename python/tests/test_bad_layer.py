"""Layers and calls of them that are refused: the exception names what the user gave, and nothing is written."""

import re

import numpy as np
import pytest

import headwise
from layer_weights import EMBED, HEADS, Weights


@pytest.mark.parametrize(
    "kind, named, change",
    [
        (TypeError, "in_proj_weight", dict(in_proj_weight=[[1.0]])),
        (TypeError, "in_proj_weight", dict(in_proj_weight=np.ones((36, 12), np.float16))),
        (TypeError, "out_proj_weight", dict(out_proj_weight=np.ones((10, 12), np.float32))),
        (ValueError, "in_proj_weight", dict(in_proj_weight=np.ones((35, 12)))),
        (ValueError, "in_proj_weight", dict(in_proj_weight=np.ones(36))),
        (ValueError, "in_proj_bias", dict(in_proj_bias=np.ones(35))),
        (ValueError, "out_proj_weight", dict(out_proj_weight=np.ones((10, 11)))),
        (ValueError, "out_proj_bias", dict(out_proj_bias=np.ones(9))),
        (ValueError, "out_proj_bias", dict(out_proj_weight=None)),
        (ValueError, "q_proj_weight", dict(in_proj_weight=None)),
        (ValueError, "k_proj_weight", dict(in_proj_weight=None, q_proj_weight=np.ones((12, 12)))),
        (ValueError, "q_proj_weight", dict(q_proj_weight=np.ones((12, 12)))),
        (ValueError, "q_proj_bias", dict(q_proj_bias=np.ones(12))),
        (ValueError, "num_kv_heads", dict(num_kv_heads=2)),
        (ValueError, "num_heads", dict(num_heads=0)),
        (TypeError, "num_heads", dict(num_heads=3.0)),
        (ValueError, "embed_dim", dict(embed_dim=13)),
        (ValueError, "weight_order", dict(weight_order="io")),
    ],
)
def test_bad_layers(kind, named, change):
    arrays = dict(
        in_proj_weight=np.ones((36, 12)),
        in_proj_bias=np.ones(36),
        out_proj_weight=np.ones((10, 12)),
        out_proj_bias=np.ones(10),
    )
    arguments = dict(embed_dim=EMBED, num_heads=HEADS, **arrays)
    arguments.update(change)
    with pytest.raises(kind, match=named):
        headwise.MultiHeadAttention(**arguments)


@pytest.mark.parametrize(
    "kind, named, call",
    [
        (TypeError, "query", dict(query=[[1.0]])),
        (TypeError, "query", dict(query=np.ones((2, 5, 12), np.float32))),
        (ValueError, "query", dict(query=np.ones((2, 5, 11)))),
        (ValueError, "query", dict(query=np.ones(12))),
        (TypeError, "key", dict(key=3)),
        (ValueError, "key", dict(key=np.ones((2, 5, 11)))),
        (ValueError, "value", dict(key=np.ones((2, 5, 12)), value=np.ones((2, 4, 12)))),
        (ValueError, "key_padding_mask", dict(key_padding_mask=np.ones((2, 4), bool))),
        (TypeError, "key_padding_mask", dict(key_padding_mask=np.ones((2, 5)))),
        (TypeError, "dropout", dict(dropout=0.1)),
        (ValueError, "num_threads", dict(num_threads=-1)),
        (TypeError, "out", dict(out=np.ones((2, 5, 10), np.float32))),
        (ValueError, "out", dict(out=np.ones((2, 5, 9)))),
        (ValueError, "out", dict(out=np.broadcast_to(np.float64(0), (2, 5, 10)))),
    ],
)
def test_bad_calls(kind, named, call):
    layer = headwise.MultiHeadAttention(
        EMBED, HEADS, in_proj_weight=np.ones((36, 12)), out_proj_weight=np.ones((10, 12))
    )
    arguments = {"query": np.ones((2, 5, 12)), **call}
    with pytest.raises(kind, match=named):
        layer(arguments.pop("query"), **arguments)


def refused(kind, text):
    return pytest.raises(kind, match="^" + re.escape(text) + "$")


@pytest.mark.parametrize("name", ["batch_first", "pack_weights"])
def test_flags_are_true_or_false(name):
    layer = headwise.MultiHeadAttention(EMBED, HEADS, in_proj_weight=np.ones((36, 12)), **{name: np.True_})
    assert layer.batch_first is True
    with refused(TypeError, f"headwise: {name} is of type int, expected True or False"):
        headwise.MultiHeadAttention(EMBED, HEADS, in_proj_weight=np.ones((36, 12)), **{name: 1})


def unaligned(shape):
    """Zeros one byte off."""
    return np.zeros(4 * int(np.prod(shape)) + 1, np.uint8)[1:].view(np.float32).reshape(shape)


@pytest.fixture
def arrays():
    return Weights(np.random.default_rng(35), np.float32).packed()


@pytest.fixture
def query():
    return np.random.default_rng(36).normal(size=(2, 5, EMBED)).astype(np.float32)


@pytest.mark.parametrize("name", ["in_proj_weight", "in_proj_bias", "out_proj_weight", "out_proj_bias"])
def test_unaligned_weights_and_biases(arrays, name):
    arrays[name] = unaligned(arrays[name].shape)
    text = f"headwise: {name}.data is {arrays[name].ctypes.data:#x}, expected an address aligned to 4 bytes"
    with refused(ValueError, text):
        headwise.MultiHeadAttention(EMBED, HEADS, **arrays)


@pytest.mark.parametrize("name", ["query", "key", "value", "out"])
@pytest.mark.parametrize("step", [1, 2])
def test_unaligned_tokens(arrays, query, name, step):
    layer = headwise.MultiHeadAttention(EMBED, HEADS, **arrays)
    given = unaligned((2, 5, step * (10 if name == "out" else EMBED)))[..., ::step]
    text = f"headwise: {name}.data is {given.ctypes.data:#x}, expected an address aligned to 4 bytes"
    with refused(ValueError, text):
        layer(**{"query": query, name: given})


@pytest.mark.parametrize("projected", [True, False])
@pytest.mark.parametrize("strides", [(0, 64, 4), (320, 4, 4), (0, 128, 8), (72, 12, 8)])
def test_elements_of_out_coincide(arrays, query, projected, strides):
    if not projected:
        arrays.update(out_proj_weight=None, out_proj_bias=None)
    layer = headwise.MultiHeadAttention(EMBED, HEADS, **arrays)
    memory = np.full(400, 42, np.float32)
    out = np.lib.stride_tricks.as_strided(memory, layer(query).shape, strides)
    text = f"headwise: out.strides is {strides}, expected strides that give every element an address of its own"
    with refused(ValueError, text):
        layer(query, out=out)
    assert (memory == 42).all()


@pytest.mark.parametrize("name", ["in_proj_weight", "in_proj_bias", "out_proj_weight", "out_proj_bias"])
@pytest.mark.parametrize("step", [1, 2])
def test_out_shares_elements_with_a_weight(arrays, query, name, step):
    memory = np.zeros(1000, np.float32)
    # A bias may have any strides, and is then read from a copy.
    part = memory[: step * arrays[name].size][:: step if name.endswith("bias") else 1][: arrays[name].size]
    view = part.reshape(arrays[name].shape)
    view[...] = arrays[name]
    arrays[name] = view
    layer = headwise.MultiHeadAttention(EMBED, HEADS, **arrays)
    expected, before = layer(query), memory.copy()
    out = memory[2:102].reshape(2, 5, 10)
    text = f"headwise: out is a view that shares an element with {name}, expected one that shares none"
    with refused(ValueError, text):
        layer(query, out=out)
    np.testing.assert_array_equal(memory, before)
    packed = headwise.MultiHeadAttention(EMBED, HEADS, pack_weights=True, **arrays)
    np.testing.assert_array_equal(packed(query, out=out), expected)


def test_more_elements_than_memory_holds():
    weights = {f"{name}_proj_weight": np.ones((256, 1), np.float32) for name in "qkv"}
    layer = headwise.MultiHeadAttention(1, 1, **weights)
    huge = np.lib.stride_tricks.as_strided(np.ones(1, np.float32), (2**52, 1, 1), (0, 4, 4))
    with refused(
        ValueError, f"headwise: shape of projected query is ({2**52}, 1, 512), expected at most 2^58 elements"
    ):
        layer(huge)
    wide = np.lib.stride_tricks.as_strided(np.ones(1, np.float32), (2**30, 2**29, 1), (0, 0, 0))
    with refused(ValueError, f"headwise: shape of query is ({2**30}, {2**29}, 1), expected at most 2^58 elements"):
        layer(wide)
