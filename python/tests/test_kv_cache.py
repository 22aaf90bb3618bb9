"""KvCache: attention over a cache is attention over all tokens so far."""

import numpy as np
import pytest

import headwise
import reference


def make(generator, dtype, batch=2, tokens=12):
    query = generator.normal(size=(batch, 4, tokens, 8)).astype(dtype)
    key = generator.normal(size=(batch, 2, tokens, 8)).astype(dtype)
    value = generator.normal(size=(batch, 2, tokens, 6)).astype(dtype)
    return query, key, value


def new_cache(dtype, **changes):
    return headwise.KvCache(
        **{**dict(batch=2, num_kv_heads=2, capacity=12, head_dim=8, value_dim=6, dtype=dtype), **changes}
    )


def test_token_by_token_is_causal_attention(generator, dtype):
    query, key, value = make(generator, dtype)
    cache = new_cache(dtype)
    expected = reference.attention(query, key, value, causal=True)
    outputs = []
    for t in [slice(0, 5)] + [slice(i, i + 1) for i in range(5, 12)]:
        cache.append(key[:, :, t], value[:, :, t])
        outputs.append(cache.attention(query[:, :, t], causal=True, query_position="bottom_right"))
    assert expected.output.worst_share(np.concatenate(outputs, axis=2)) <= 1
    assert cache.lengths.tolist() == [12, 12] and cache.lengths.dtype == np.int64


def test_ring_keeps_a_window(generator, dtype):
    query, key, value = make(generator, dtype)
    cache = new_cache(dtype, capacity=4, ring=True)
    expected = reference.attention(query, key, value, window=(3, 0))
    for i in range(12):
        t = slice(i, i + 1)
        cache.append(key[:, :, t], value[:, :, t])
        output = cache.attention(query[:, :, t], window=(3, 0), query_position="bottom_right")
        row = reference.Approximate(expected.output.value[:, :, t], expected.output.error[:, :, t])
        assert row.worst_share(output) <= 1
    assert cache.first_positions.tolist() == [8, 8]


def test_lengths_of_their_own_truncate_and_reorder(generator, dtype):
    query, key, value = make(generator, dtype)
    cache = new_cache(dtype)
    cache.append(key, value, counts=[12, 5])
    cache.truncate([7, 5])
    cache.reorder([1, 0])
    assert cache.lengths.tolist() == [5, 7]
    output, weights = cache.attention(query, return_weights=True)
    assert weights.shape == (2, 4, 12, 7)
    expected = reference.attention(query, key[::-1, :, :7], value[::-1, :, :7], key_lengths=[5, 7])
    assert expected.output.worst_share(output) <= 1 and expected.weights.worst_share(weights) <= 1
    np.testing.assert_array_equal(cache.keys[0, :, :5], key[1, :, :5])
    np.testing.assert_array_equal(cache.values[1, :, :7], value[0, :, :7])


@pytest.mark.parametrize("layout", ["half_split", "interleaved"])
def test_rotary_on_append(generator, dtype, layout):
    _, key, value = make(generator, dtype)
    cache = new_cache(dtype)
    cache.append(key[:, :, :5], value[:, :, :5], rotary=True, layout=layout, base=500.0)
    cache.append(key[:, :, 5:], value[:, :, 5:], rotary=True, layout=layout, base=500.0)
    np.testing.assert_array_equal(cache.keys, headwise.rotary_embedding(key, layout=layout, base=500.0))


@pytest.mark.parametrize("call", [dict(num_threads=0), dict(cosine=None, sine=None), dict(layout="half_split")])
def test_options_of_the_rotation_may_be_their_defaults_without_one(generator, dtype, call):
    _, key, value = make(generator, dtype)
    cache = new_cache(dtype)
    cache.append(key, value, **call)
    np.testing.assert_array_equal(cache.keys, key)


def test_an_empty_cache_gives_zeros(dtype):
    assert (new_cache(dtype).attention(np.ones((2, 4, 3, 8), dtype)) == 0).all()


def test_bad_input_leaves_the_cache(generator, dtype):
    _, key, value = make(generator, dtype)
    cache = new_cache(dtype)
    cache.append(key[:, :, :5], value[:, :, :5])
    tables = dict(cosine=np.ones((12, 4), dtype), sine=np.zeros((12, 4), dtype))
    other = np.float64 if dtype == np.float32 else np.float32
    for kind, named, call in [
        (ValueError, "key", lambda: cache.append(key, value)),
        (ValueError, "value", lambda: cache.append(key[:, :, :2], value[:, :, :3])),
        (ValueError, "key", lambda: cache.append(key[0], value[0])),
        (TypeError, "key", lambda: cache.append(key.astype(other), value)),
        (TypeError, "value", lambda: cache.append(key, "abc")),
        (ValueError, "counts", lambda: cache.append(key[:, :, :2], value[:, :, :2], counts=[1, 3])),
        (ValueError, "counts", lambda: cache.append(key[:, :, :2], value[:, :, :2], counts=[1])),
        (ValueError, "rotary", lambda: cache.append(key[:, :, :2], value[:, :, :2], base=3.0)),
        (ValueError, "rotary", lambda: cache.append(key[:, :, :2], value[:, :, :2], **tables)),
        (TypeError, "depth", lambda: cache.append(key[:, :, :2], value[:, :, :2], rotary=True, depth=3)),
        (ValueError, "sine", lambda: cache.append(key, value, rotary=True, cosine=np.ones((12, 4), dtype))),
        (ValueError, "lengths", lambda: cache.truncate([6, 0])),
        (ValueError, "lengths", lambda: cache.truncate([])),
        (ValueError, "source", lambda: cache.reorder([0, 2])),
        (TypeError, "source", lambda: cache.reorder(None)),
        (TypeError, "query", lambda: cache.attention(np.ones((2, 4, 3, 8), other))),
        (ValueError, "head_dim", lambda: cache.attention(np.ones((2, 4, 3, 9), dtype))),
        (ValueError, "key_lengths", lambda: cache.attention(np.ones((2, 4, 3, 8), dtype), key_lengths=[1, 1])),
        (TypeError, "ring", lambda: new_cache(dtype, ring=1)),
        (ValueError, "capacity", lambda: new_cache(dtype, capacity=-1)),
    ]:
        with pytest.raises(kind, match=named):
            call()
    assert cache.lengths.tolist() == [5, 5]
    np.testing.assert_array_equal(cache.keys[:, :, :5], key[:, :, :5])
