"""attention() against the formula, its memory and its results."""

import numpy as np
import pytest

import headwise
import reference

SHAPE = dict(batch=2, heads=4, kv_heads=2, queries=5, keys=7, dim=8, value_dim=3)


def make(generator, dtype, **changes):
    n = {**SHAPE, **changes}
    query = generator.normal(size=(n["batch"], n["heads"], n["queries"], n["dim"])).astype(dtype)
    key = generator.normal(size=(n["batch"], n["kv_heads"], n["keys"], n["dim"])).astype(dtype)
    value = generator.normal(size=(n["batch"], n["kv_heads"], n["keys"], n["value_dim"])).astype(dtype)
    return query, key, value


def options(generator, dtype):
    scores = (2, 4, 5, 7)
    return {
        "none": {},
        "mask": {"mask": generator.random(scores) < 0.7},
        "mask of bytes": {"mask": (generator.random((5, 7)) < 0.7).astype(np.uint8) * 7},
        "mask of one axis": {"mask": generator.random(7) < 0.7},
        "bias": {"bias": generator.normal(size=scores).astype(dtype)},
        "bias and mask": {
            "bias": generator.normal(size=(4, 1, 7)).astype(dtype),
            "mask": generator.random((2, 1, 1, 7)) < 0.7,
        },
        "key padding mask": {"key_padding_mask": generator.random((2, 7)) < 0.3},
        "causal": {"causal": True},
        "window": {"window": (2, 1)},
        "half a window": {"window": (None, 1), "query_position": "bottom_right"},
        "scale": {"scale": -0.3},
        "softcap": {"softcap": 1.5},
        "bottom right": {"causal": True, "query_position": "bottom_right", "key_lengths": [7, 3]},
        "given": {"causal": True, "query_position": "given", "query_offsets": np.array([2, -1])},
        "key lengths": {"key_lengths": np.array([4, 0])},
        "alibi": {"alibi_slopes": np.array([0.5, 0.25, 0.1, 0], dtype)},
        "sinks": {"sinks": [0.5, -1.0, 2.0, 0.0]},
    }


@pytest.mark.parametrize("name", options(np.random.default_rng(0), np.float32))
def test_every_option_gives_the_formula(generator, dtype, name):
    query, key, value = make(generator, dtype)
    chosen = options(generator, dtype)[name]
    expected = reference.attention(query, key, value, **chosen)
    output, logsumexp, weights, scores = headwise.attention(
        query, key, value, **chosen, return_logsumexp=True, return_weights=True, return_scores="biased"
    )
    assert output.dtype == logsumexp.dtype == weights.dtype == scores.dtype == dtype
    assert expected.output.worst_share(output) <= 1
    assert expected.logsumexp.worst_share(logsumexp) <= 1
    assert expected.weights.worst_share(weights) <= 1
    np.testing.assert_allclose(scores, expected.scores["biased"].astype(dtype), rtol=1e-3, atol=1e-5)
    assert np.array_equal(headwise.attention(query, key, value, **chosen), output)


def test_many_rows_and_keys(generator, dtype):
    query, key, value = make(generator, dtype, queries=70, keys=130, dim=16, value_dim=20)
    expected = reference.attention(query, key, value, causal=True, window=(40, None))
    assert expected.output.worst_share(headwise.attention(query, key, value, causal=True, window=(40, None))) <= 1


@pytest.mark.parametrize("stage", ["scaled", "softcapped", "biased"])
def test_scores_at_every_stage(generator, dtype, stage):
    query, key, value = make(generator, dtype)
    chosen = {"softcap": 2.0, "bias": np.ones((5, 7), dtype), "causal": True}
    _, scores = headwise.attention(query, key, value, **chosen, return_scores=stage)
    expected = reference.attention(query, key, value, **chosen).scores[stage]
    np.testing.assert_allclose(scores, expected.astype(dtype), rtol=1e-3, atol=1e-5)


def test_mean_weights(generator, dtype):
    query, key, value = make(generator, dtype)
    _, mean = headwise.attention(query, key, value, return_weights="mean")
    expected = reference.mean_over_heads(reference.attention(query, key, value).weights, dtype)
    assert expected.worst_share(mean) <= 1


def rearrangements():
    def gaps(x):
        wide = np.full(tuple(2 * extent for extent in x.shape), np.nan, x.dtype)
        view = wide[::2, ::2, ::2, ::2]
        view[...] = x
        return view

    def transposed(x):
        return np.ascontiguousarray(x.transpose(2, 1, 3, 0)).transpose(3, 1, 0, 2)

    return {
        "fortran": np.asfortranarray,
        "negative": lambda x: np.ascontiguousarray(x[::-1, ::-1, ::-1, ::-1])[::-1, ::-1, ::-1, ::-1],
        "gaps": gaps,
        "transposed": transposed,
        "position first": lambda x: np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2),
    }


@pytest.mark.parametrize("name", rearrangements())
def test_any_strides_give_the_same_bits_without_copies(generator, dtype, name):
    arrays = make(generator, dtype)
    views = [rearrangements()[name](array) for array in arrays]
    out = rearrangements()[name](np.zeros((2, 4, 5, 3), dtype))
    expected = headwise.attention(*arrays)
    assert headwise.attention(*views, out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_broadcast_inputs(generator, dtype):
    query, key, value = make(generator, dtype, batch=1, kv_heads=1)
    wide = [np.broadcast_to(array, (3,) + array.shape[1:]) for array in (query, key, value)]
    output = headwise.attention(*wide)
    for entry in output:
        np.testing.assert_array_equal(entry, headwise.attention(query, key, value)[0])


def test_out_is_written_and_nothing_beside_it(generator, dtype):
    arrays = make(generator, dtype)
    frame = np.full((2, 4, 7, 5), 42, dtype)
    inner = frame[:, :, 1:-1, 1:-1]
    headwise.attention(*arrays, out=inner)
    np.testing.assert_array_equal(inner, headwise.attention(*arrays))
    frame[:, :, 1:-1, 1:-1] = 42
    assert (frame == 42).all()


@pytest.mark.parametrize("change", [dict(batch=0), dict(queries=0), dict(value_dim=0), dict(heads=0, kv_heads=0)])
def test_zero_sizes_give_empty_outputs(generator, dtype, change):
    output = headwise.attention(*make(generator, dtype, **change))
    assert output.size == 0 and output.shape == tuple(
        {**SHAPE, **change}[n] for n in ("batch", "heads", "queries", "value_dim")
    )


def test_no_keys_give_zeros(generator, dtype):
    output, logsumexp = headwise.attention(*make(generator, dtype, keys=0), return_logsumexp=True)
    assert (output == 0).all() and (logsumexp == -np.inf).all()


def test_dead_rows_are_zero_and_excluded_keys_have_no_effect(generator, dtype):
    query, key, value = make(generator, dtype)
    key[:, :, 4:], value[:, :, 4:] = np.nan, np.inf
    output = headwise.attention(query, key, value, key_lengths=[4, 0])
    assert np.isfinite(output).all() and (output[1] == 0).all()


def test_threads_do_not_change_bits(generator, dtype):
    arrays = make(generator, dtype, queries=200, keys=200, dim=32)
    expected = headwise.attention(*arrays, num_threads=1)
    for num_threads in (0, 2, 3, 8):
        np.testing.assert_array_equal(headwise.attention(*arrays, num_threads=num_threads), expected)


def test_other_objects_with_buffers(generator):
    query, key, value = make(generator, np.float64)
    views = [memoryview(array) for array in (query, key, value)]
    np.testing.assert_array_equal(headwise.attention(*views), headwise.attention(query, key, value))


class DLPackOnly:
    """A tensor of a framework that headwise has never heard of."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **keywords):
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_any_dlpack_tensor_is_read_and_written_in_place(generator, dtype):
    arrays = make(generator, dtype)
    out = np.zeros((2, 4, 5, 3), dtype)
    given = DLPackOnly(out)
    assert headwise.attention(*(DLPackOnly(array[:, :, ::-1]) for array in arrays), out=given) is given
    np.testing.assert_array_equal(out, headwise.attention(*(array[:, :, ::-1] for array in arrays)))


def test_ragged_batch_equals_its_sequences(generator, dtype):
    query, key, value = (
        generator.normal(size=(tokens, heads, 8)).astype(dtype) for tokens, heads in ((9, 4), (12, 2), (12, 2))
    )
    query_starts, key_starts = [0, 4, 4, 9], np.array([0, 5, 6, 12], np.int32)
    output, logsumexp = headwise.attention_varlen(
        query, key, value, query_starts, key_starts, causal=True, query_position="bottom_right", return_logsumexp=True
    )
    assert output.shape == (9, 4, 8) and logsumexp.shape == (9, 4)
    for i in range(3):
        rows, columns = slice(query_starts[i], query_starts[i + 1]), slice(key_starts[i], key_starts[i + 1])
        one = [
            array[part].swapaxes(0, 1)[np.newaxis] for array, part in ((query, rows), (key, columns), (value, columns))
        ]
        expected = reference.attention(*one, causal=True, query_position="bottom_right")
        assert expected.output.worst_share(output[rows].swapaxes(0, 1)[np.newaxis]) <= 1
        assert expected.logsumexp.worst_share(logsumexp[rows].swapaxes(0, 1)[np.newaxis]) <= 1
    out = np.empty_like(query)
    assert headwise.attention_varlen(query, key, value, query_starts, key_starts, out=out) is out


@pytest.mark.parametrize(
    "keyword, wanted, excluded",
    [
        ("return_weights", True, 0),
        ("return_weights", "mean", 0),
        ("return_scores", "scaled", 0),
        ("return_scores", "softcapped", 0),
        ("return_scores", "biased", -np.inf),
    ],
)
def test_weights_and_scores_of_a_ragged_batch_are_defined_beyond_its_sequences(generator, dtype, keyword, wanted, excluded):
    query, key = (generator.normal(size=(tokens, 2, 8)).astype(dtype) for tokens in (5, 7))
    starts = [0, 1, 1, 5], [0, 4, 5, 7]
    # New arrays of few bytes lie where ones of the same size were freed.
    shape = (3, 4, 4) if wanted == "mean" else (3, 2, 4, 4)
    stale = np.full(shape, np.nan, dtype)
    del stale
    _, got = headwise.attention_varlen(query, key, key, *starts, **{keyword: wanted})
    expected = np.zeros(shape, dtype)
    for i in range(3):
        q, k = (x[at[i] : at[i + 1]].swapaxes(0, 1)[np.newaxis] for x, at in zip((query, key), starts))
        _, own = headwise.attention(q, k, k, **{keyword: wanted})
        rows = expected[i][..., : q.shape[2], :]
        rows[...] = excluded
        rows[..., : k.shape[2]] = own[0]
    np.testing.assert_allclose(got, expected, rtol=1e-4 if dtype == np.float32 else 1e-12)
