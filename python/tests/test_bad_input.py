"""Whatever is passed, an exception names the argument and outputs stay as they were; nothing crashes."""

import gc
import re

import ml_dtypes
import numpy as np
import pytest

import headwise


class OnDevice:
    """A tensor that says it lies on another device."""

    dtype = np.dtype(np.float32)

    def __dlpack__(self, **keywords):
        raise AssertionError("asked for the data")

    def __dlpack_device__(self):
        return (2, 0)


class Broken:
    """A tensor whose export fails."""

    dtype = np.dtype(np.float32)

    def __dlpack__(self, **keywords):
        raise BufferError("out of order")

    def __dlpack_device__(self):
        return (1, 0)


class BrokenDevice(Broken):
    def __dlpack_device__(self):
        raise BufferError("no device")


class NamedDevice(Broken):
    def __dlpack_device__(self):
        return ("cpu", 0)


class NoTensor(Broken):
    def __dlpack__(self, **keywords):
        return 42


def arrays():
    return {
        "query": np.ones((2, 4, 5, 8), np.float32),
        "key": np.ones((2, 2, 7, 8), np.float32),
        "value": np.ones((2, 2, 7, 3), np.float32),
    }


def read_only(shape):
    array = np.zeros(shape, np.float32)
    array.flags.writeable = False
    return array


def unaligned(shape):
    return np.zeros(4 * int(np.prod(shape)) + 1, np.uint8)[1:].view(np.float32).reshape(shape)


def odd_strides(shape):
    records = np.zeros(shape, np.dtype([("number", np.float32), ("byte", np.uint8)]))
    return records["number"]


TYPE_ERRORS = {
    "a list": ("query", [[1.0]]),
    "None": ("key", None),
    "a string": ("value", "abc"),
    "a number": ("query", 3.0),
    "integers": ("query", np.ones((2, 4, 5, 8), np.int64)),
    "complex": ("query", np.ones((2, 4, 5, 8), complex)),
    "float16": ("query", np.ones((2, 4, 5, 8), np.float16)),
    "bfloat16": ("query", np.ones((2, 4, 5, 8), ml_dtypes.bfloat16)),
    "long double": ("query", np.ones((2, 4, 5, 8), np.longdouble)),
    "other byte order": ("query", np.ones((2, 4, 5, 8), ">f4")),
    "objects": ("query", np.ones((2, 4, 5, 8), object)),
    "no bytes": ("query", np.zeros((2, 4, 5, 8), "V0")),
    "another device": ("key", OnDevice()),
    "broken export": ("key", Broken()),
    "broken device": ("key", BrokenDevice()),
    "device by name": ("key is on an unknown device ('str' object", NamedDevice(), "key"),
    "no tensor": ("key", NoTensor()),
    "mixed types": ("key", np.ones((2, 2, 7, 8), np.float64)),
    "mixed types of value": ("value", np.ones((2, 2, 7, 3), np.float64)),
    "mask of floats": ("mask", np.ones((5, 7), np.float32)),
    "mask of integers": ("mask", np.ones((5, 7), np.int32)),
    "bias of another type": ("bias", np.ones((5, 7), np.float64)),
    "bias of bools": ("bias", np.ones((5, 7), bool)),
    "key padding mask of floats": ("key_padding_mask", np.ones((2, 7), np.float32)),
    "key lengths of floats": ("key_lengths", np.ones(2)),
    "key lengths of strings": ("key_lengths[0]", ["a", "b"], "key_lengths"),
    "key lengths that are a number": ("key_lengths", 3),
    "slopes of another type": ("alibi_slopes", np.ones(4)),
    "sinks of strings": ("sinks[1]", [1, "b", 3, 4], "sinks"),
    "causal": ("causal", 1),
    "window": ("window", 3),
    "window of three": ("window", (1, 2, 3)),
    "window of floats": ("window[0]", (0.5, 1), "window"),
    "scale": ("scale", "1"),
    "softcap": ("softcap", [1]),
    "query_position": ("query_position", 0),
    "num_threads": ("num_threads", 1.5),
    "return_logsumexp": ("return_logsumexp", 1),
    "return_scores": ("return_scores", True),
    "out of another type": ("out", np.zeros((2, 4, 5, 3))),
    "out that is a list": ("out", [0]),
    "an unknown keyword": ("dropout", 0.5),
}

VALUE_ERRORS = {
    "three axes": ("query", np.ones((4, 5, 8), np.float32)),
    "no axes": ("query", np.float32(3) * np.ones((), np.float32)),
    "five axes": ("key", np.ones((1, 2, 2, 7, 8), np.float32)),
    "another head size": ("key", np.ones((2, 2, 7, 4), np.float32)),
    "another length": ("value", np.ones((2, 2, 6, 3), np.float32)),
    "heads that do not divide": ("num_kv_heads", np.ones((2, 3, 7, 8), np.float32), "key"),
    "no features": ("head_dim", np.ones((2, 4, 5, 0), np.float32), "query"),
    "unaligned": ("query", unaligned((2, 4, 5, 8))),
    "strides of half elements": ("query", odd_strides((2, 4, 5, 8))),
    "mask of five axes": ("mask", np.ones((1, 1, 1, 5, 7), bool)),
    "mask that does not broadcast": ("mask", np.ones((5, 6), bool)),
    "bias that does not broadcast": ("bias", np.ones((3, 1, 1), np.float32)),
    "key padding mask of one axis": ("key_padding_mask", np.ones(7, bool)),
    "too few key lengths": ("key_lengths", [3]),
    "no key lengths": ("key_lengths", []),
    "key length beyond the keys": ("key_lengths", [3, 8]),
    "negative key length": ("key_lengths", [3, -1]),
    "key length of 65 bits": ("key_lengths[0]", [2**64, 1], "key_lengths"),
    "key lengths of two axes": ("key_lengths", np.ones((2, 1), np.int64)),
    "offsets without their position": ("query_offsets", [0, 0]),
    "too many slopes": ("alibi_slopes", [0.0] * 5),
    "window": ("window", (-2, 0)),
    "window of 65 bits": ("window[1]", (0, 2**70), "window"),
    "scale": ("scale", np.nan),
    "scale of infinity": ("scale", np.inf),
    "scale beyond float64": ("scale", 10**400),
    "softcap": ("softcap", -1),
    "query_position": ("query_position", "middle"),
    "num_threads": ("num_threads", -1),
    "num_threads of 33 bits": ("num_threads", 2**32 + 1),
    "return_weights": ("return_weights", "all"),
    "return_scores": ("return_scores", "raw"),
    "read-only out": ("out", read_only((2, 4, 5, 3))),
    "out of another shape": ("output", np.zeros((2, 4, 5, 4), np.float32), "out"),
    "out of three axes": ("out", np.zeros((4, 5, 3), np.float32)),
    "out without strides": (
        "output",
        np.lib.stride_tricks.as_strided(np.zeros(3, np.float32), (2, 4, 5, 3), (0, 0, 0, 4)),
        "out",
    ),
}


def check_refusal(kind, named, value, argument=None):
    call = {**arrays(), "out": np.full((2, 4, 5, 3), 42, np.float32), (argument or named): value}
    before = call["out"].copy() if isinstance(call["out"], np.ndarray) else None
    with pytest.raises(kind, match=re.escape(named)):
        headwise.attention(call.pop("query"), call.pop("key"), call.pop("value"), **call)
    if before is not None:
        np.testing.assert_array_equal(call["out"], before)


@pytest.mark.parametrize("name", TYPE_ERRORS)
def test_wrong_types_are_type_errors(name):
    check_refusal(TypeError, *TYPE_ERRORS[name])


@pytest.mark.parametrize("name", VALUE_ERRORS)
def test_wrong_values_are_value_errors(name):
    check_refusal(ValueError, *VALUE_ERRORS[name])


@pytest.mark.parametrize("name", ["query", "key", "value", "mask", "bias"])
def test_out_may_not_overlap_an_input(name):
    memory = np.ones(1000, np.float32)
    call = {**arrays(), "mask": np.ones((5, 7), np.uint8), "bias": np.ones((5, 7), np.float32)}
    shape = call[name].shape
    view = memory.view(call[name].dtype)[: call[name].size].reshape(shape)
    call[name] = view
    out = memory[4:124].reshape(2, 4, 5, 3)
    with pytest.raises(ValueError, match=f"output.*{name}|{name}.*output"):
        headwise.attention(call["query"], call["key"], call["value"], mask=call["mask"], bias=call["bias"], out=out)


def test_huge_sizes_are_refused_without_allocating():
    element = np.ones(1, np.float32)
    as_strided = np.lib.stride_tricks.as_strided
    for extents in [(2**40, 4, 5, 8), (1, 1, 2**61, 8), (2**31, 2**31, 1, 1)]:
        with pytest.raises((ValueError, MemoryError)):
            huge = as_strided(element, extents, (0, 0, 0, 0))
            headwise.attention(huge, huge, huge)
    with pytest.raises((ValueError, MemoryError)):
        headwise.KvCache(batch=2**31, num_kv_heads=2**31, capacity=8, head_dim=8)
    with pytest.raises((ValueError, MemoryError)):
        headwise.KvCache(batch=2**20, num_kv_heads=2**10, capacity=2**12, head_dim=128)
    with pytest.raises((ValueError, MemoryError)):
        query = as_strided(element, (1, 1, 2**24, 1), (0, 0, 0, 0))
        headwise.attention(query, query, query, return_weights=True)


def test_ragged_starts_are_checked():
    query = np.ones((9, 4, 8), np.float32)
    key = np.ones((12, 2, 8), np.float32)
    for starts in ([], [0], [1, 9], [0, 5, 4, 9], [0, 10], [0, -3, 9], [0, 2**62, 9], [-(2**62), 2**62, 9]):
        with pytest.raises(ValueError, match="query_starts|key_starts|queries"):
            headwise.attention_varlen(query, key, key, starts, [0] * (len(starts) - 1) + [12])
    with pytest.raises(ValueError, match="key_lengths"):
        headwise.attention_varlen(query, key, key, [0, 9], [0, 12], key_lengths=[3])


@pytest.mark.parametrize(
    "call", [{}, dict(return_weights=True), dict(return_weights="mean"), dict(return_scores="scaled")]
)
@pytest.mark.parametrize(
    "starts, text",
    [
        ([-1, 9], "query_starts[0] is -1, expected 0"),
        ([5, -(2**63)], "query_starts[0] is 5, expected 0"),
        (
            [0, 2**63 - 1],
            "length of sequence 0 in query_starts is 9223372036854775807, expected at most 9 (shape.query_length)",
        ),
        ([0, 5, 9], "number of key_starts is 2, expected 3 (the number of query_starts)"),
    ],
)
def test_ragged_starts_are_blamed_whatever_is_returned(starts, text, call):
    query, key = np.ones((9, 4, 8), np.float32), np.ones((12, 2, 8), np.float32)
    with pytest.raises(ValueError, match="^headwise: " + re.escape(text) + "$"):
        headwise.attention_varlen(query, key, key, starts, [0, 12], **call)


@pytest.mark.parametrize("name", ["return_weights", "return_scores", "query_position"])
def test_text_without_an_encoding(name):
    query = np.ones((1, 2, 3, 4), np.float32)
    text = f"headwise: {name} is '\\ud800', expected text that UTF-8 can encode"
    with pytest.raises(ValueError, match="^" + re.escape(text) + "$"):
        headwise.attention(query, query, query, **{name: "\ud800"})


def test_arrays_may_be_freed_or_resized_between_calls():
    query, key, value = arrays().values()
    expected = headwise.attention(query, key, value)
    plan = headwise.AttentionPlan(
        batch=2, num_heads=4, num_kv_heads=2, query_length=5, key_length=7, head_dim=8, value_dim=3
    )
    for _ in range(3):
        fresh = [array.copy() for array in (query, key, value)]
        np.testing.assert_array_equal(plan.run(*fresh), expected)
        fresh[1].resize((2, 2, 3, 8), refcheck=False)
        with pytest.raises(ValueError, match="value|key"):
            plan.run(*fresh)
        del fresh
        gc.collect()


def test_a_resized_weight_is_noticed():
    weight = np.ones((24, 8), np.float32)
    layer = headwise.MultiHeadAttention(8, 2, in_proj_weight=weight)
    x = np.ones((1, 3, 8), np.float32)
    layer(x)
    weight.resize((2, 8), refcheck=False)
    with pytest.raises(ValueError, match="in_proj_weight"):
        layer(x)


def test_outputs_live_longer_than_what_made_them():
    cache = headwise.KvCache(batch=1, num_kv_heads=1, capacity=1000, head_dim=64)
    cache.append(np.ones((1, 1, 1000, 64), np.float32), np.full((1, 1, 1000, 64), 2, np.float32))
    keys, values = cache.keys, cache.values
    del cache
    gc.collect()
    assert (keys == 1).all() and (values == 2).all()
    assert not keys.flags.writeable
