"""Layers and calls of them that are refused: the exception names what the user gave, and nothing is written."""

import re

import numpy as np
import pytest

import headwise
from layer_weights import EMBED, HEADS


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
