"""rotary_embedding against its formula."""

import re

import numpy as np
import pytest

import headwise


def rotated(x, positions, layout, rotary_dim, base):
    half = rotary_dim // 2
    angles = positions[..., np.newaxis] * np.longdouble(base) ** (-2 * np.arange(half) / np.longdouble(rotary_dim))
    cosine, sine = np.cos(angles)[:, np.newaxis], np.sin(angles)[:, np.newaxis]
    first, second = (
        (slice(0, half), slice(half, rotary_dim))
        if layout == "half_split"
        else (slice(0, rotary_dim, 2), slice(1, rotary_dim, 2))
    )
    y = x.astype(np.longdouble)
    a, b = y[..., first].copy(), y[..., second].copy()
    y[..., first], y[..., second] = a * cosine - b * sine, a * sine + b * cosine
    return y


@pytest.mark.parametrize("layout", ["half_split", "interleaved"])
@pytest.mark.parametrize("rotary_dim", [0, 4])
def test_formula(generator, dtype, layout, rotary_dim):
    x = generator.normal(size=(2, 3, 5, 8)).astype(dtype)
    positions = np.array([[0, 1, 2, 3, 100], [5, 4, -3, 2, 1]])
    got = headwise.rotary_embedding(x, positions, layout=layout, rotary_dim=rotary_dim, base=100.0)
    expected = rotated(x, positions, layout, rotary_dim or 8, 100.0)
    np.testing.assert_allclose(got, expected.astype(dtype), rtol=0, atol=16 * np.finfo(dtype).eps)
    default = headwise.rotary_embedding(x, layout=layout)
    np.testing.assert_array_equal(default, headwise.rotary_embedding(x, np.arange(5, dtype=np.int32), layout=layout))


def test_tables_out_and_in_place(generator, dtype):
    x = generator.normal(size=(2, 3, 5, 8)).astype(dtype)
    angles = np.arange(5)[:, np.newaxis] * 10000.0 ** (-np.arange(4) / 4)
    tables = dict(cosine=np.cos(angles).astype(dtype), sine=np.sin(angles).astype(dtype))
    expected = headwise.rotary_embedding(x)
    np.testing.assert_array_equal(headwise.rotary_embedding(x, **tables), expected)
    out = np.zeros_like(x)[:, :, ::-1]
    assert headwise.rotary_embedding(x, out=out) is out
    np.testing.assert_array_equal(out, expected)
    assert headwise.rotary_embedding(x, out=x) is x
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize(
    "kind, named, change",
    [
        (TypeError, "x", dict(x=[1])),
        (TypeError, "x", dict(x=np.ones((1, 1, 2, 4), int))),
        (ValueError, "x", dict(x=np.ones((2, 4)))),
        (TypeError, "positions", dict(positions=np.ones(2))),
        (ValueError, "positions", dict(positions=np.ones(3, int))),
        (ValueError, "positions", dict(positions=np.ones((1, 1, 2), int))),
        (ValueError, "layout", dict(layout="other")),
        (ValueError, "rotary_dim", dict(rotary_dim=3)),
        (TypeError, "base", dict(base="x")),
        (ValueError, r"layout is '\\ud800', expected text that UTF-8 can encode", dict(layout="\ud800")),
        (TypeError, "cosine", dict(cosine=np.ones((2, 2), np.float32), sine=np.ones((2, 2)))),
        (ValueError, "position", dict(cosine=np.ones((1, 2)), sine=np.ones((1, 2)))),
        (ValueError, "out", dict(out=np.ones((1, 1, 2, 3)))),
        (TypeError, "out", dict(out=np.ones((1, 1, 2, 4), np.float32))),
    ],
)
def test_bad_input(kind, named, change):
    call = {"x": np.ones((1, 1, 2, 4)), **change}
    with pytest.raises(kind, match=named):
        headwise.rotary_embedding(call.pop("x"), **call)


def test_elements_of_out_coincide():
    x, memory = np.ones((1, 2, 3, 4)), np.full(12, 42.0)
    out = np.lib.stride_tricks.as_strided(memory, x.shape, (0, 0, 32, 8))
    text = "headwise: out.strides is (0, 0, 32, 8), expected strides that give every element an address of its own"
    with pytest.raises(ValueError, match="^" + re.escape(text) + "$"):
        headwise.rotary_embedding(x, out=out)
    assert (memory == 42).all()
