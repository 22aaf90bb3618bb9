"""MultiHeadAttention against its formula: every form of weights and call."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import headwise
import reference
from layer_weights import EMBED, HEADS, Weights


@pytest.fixture
def tokens(generator, dtype):
    return generator.normal(size=(2, 5, EMBED)).astype(dtype)


@pytest.mark.parametrize("order", ["out_in", "in_out"])
@pytest.mark.parametrize("form", ["packed", "apart"])
@pytest.mark.parametrize("biases", [True, False])
def test_self_attention(generator, dtype, tokens, form, order, biases):
    weights = Weights(generator, dtype, biases=biases)
    layer = headwise.MultiHeadAttention(EMBED, HEADS, **getattr(weights, form)(order))
    output, heads = weights.expected(tokens)
    assert output.worst_share(layer(tokens)) <= 1
    got, mean = layer(tokens, need_weights=True)
    assert output.worst_share(got) <= 1 and reference.mean_over_heads(heads.weights, dtype).worst_share(mean) <= 1
    _, each = layer(tokens, tokens, tokens, need_weights=True, average_attn_weights=False)
    assert heads.weights.worst_share(each) <= 1


def test_cross_attention_with_sizes_of_its_own_and_grouped_heads(generator, dtype, tokens):
    weights = Weights(generator, dtype, heads=4, kv_heads=2, head_dim=3, value_dim=5, key_inputs=7, value_inputs=6)
    layer = headwise.MultiHeadAttention(EMBED, 4, num_kv_heads=2, **weights.apart())
    key, value = generator.normal(size=(2, 9, 7)).astype(dtype), generator.normal(size=(2, 9, 6)).astype(dtype)
    output, _ = weights.expected(tokens, key, value)
    assert output.worst_share(layer(tokens, key, value)) <= 1


@pytest.mark.parametrize("form", ["packed", "apart"])
def test_options_of_attention(generator, dtype, tokens, form):
    weights = Weights(generator, dtype)
    layer = headwise.MultiHeadAttention(EMBED, HEADS, **getattr(weights, form)())
    memory = generator.normal(size=(2, 7, EMBED)).astype(dtype)
    padding = generator.random((2, 7)) < 0.4
    for call in [
        dict(causal=True),
        dict(key_lengths=[7, 2], causal=True, query_position="bottom_right"),
        dict(mask=generator.random((5, 7)) < 0.6, bias=generator.normal(size=(3, 5, 7)).astype(dtype)),
        dict(key_padding_mask=padding),
        dict(window=(2, 2), scale=0.2, softcap=3.0, sinks=[0.5, 1.0, -1.0]),
    ]:
        output, heads = weights.expected(tokens, memory, **call)
        assert output.worst_share(layer(tokens, memory, **call)) <= 1
        got, logsumexp = layer(tokens, memory, **call, return_logsumexp=True)
        assert output.worst_share(got) <= 1 and logsumexp.shape == heads.logsumexp.value.shape


def test_without_output_projection_the_heads_are_the_output(generator, dtype, tokens):
    weights = Weights(generator, dtype)
    arrays = dict(weights.packed(), out_proj_weight=None, out_proj_bias=None)
    _, heads = weights.expected(tokens)
    assert (
        reference.join_heads(heads.output).worst_share(headwise.MultiHeadAttention(EMBED, HEADS, **arrays)(tokens)) <= 1
    )


def test_without_a_batch(generator, dtype, tokens):
    layer = headwise.MultiHeadAttention(EMBED, HEADS, **Weights(generator, dtype).packed())
    padding = np.array([False, False, True, False, True])
    output, weights = layer(tokens[0], key_padding_mask=padding, need_weights=True)
    batched, batched_weights = layer(tokens[:1], key_padding_mask=padding[np.newaxis], need_weights=True)
    np.testing.assert_array_equal(output, batched[0])
    np.testing.assert_array_equal(weights, batched_weights[0])


def test_tokens_first(generator, dtype, tokens):
    arrays = Weights(generator, dtype).packed()
    first = headwise.MultiHeadAttention(EMBED, HEADS, batch_first=False, **arrays)(tokens.swapaxes(0, 1))
    expected = headwise.MultiHeadAttention(EMBED, HEADS, **arrays)(tokens)
    tolerance = dict(rtol=0, atol=100 * np.finfo(dtype).eps)
    np.testing.assert_allclose(first.swapaxes(0, 1), expected, **tolerance)


def test_any_strides_and_out(generator, dtype, tokens):
    layer = headwise.MultiHeadAttention(EMBED, HEADS, **Weights(generator, dtype).packed())
    expected = layer(tokens)
    for view in (
        tokens[:, ::-1, ::-1].copy()[:, ::-1, ::-1],
        np.asfortranarray(tokens),
        np.repeat(tokens, 2, axis=2)[..., ::2],
    ):
        np.testing.assert_array_equal(layer(view), expected)
    out = np.zeros((2, 10, 5), dtype).swapaxes(1, 2)
    assert layer(tokens, out=out) is out
    np.testing.assert_array_equal(out, expected)
    strides = [out.itemsize * stride for stride in (5, 1, 10)]
    interleaved = np.lib.stride_tricks.as_strided(np.zeros(100, dtype), (2, 5, 10), strides)
    np.testing.assert_array_equal(layer(tokens, out=interleaved), expected)
    buffer = np.zeros_like(expected)
    layer(tokens, out=memoryview(buffer))
    np.testing.assert_array_equal(buffer, expected)
    assert layer(tokens[:0]).shape == (0, 5, 10) and layer(tokens[:, :0]).shape == (2, 0, 10)


def test_weights_are_views(generator, dtype, tokens):
    arrays = Weights(generator, dtype).packed()
    layer = headwise.MultiHeadAttention(EMBED, HEADS, **arrays)
    before = layer(tokens)
    arrays["out_proj_weight"][...] *= 2
    arrays["out_proj_bias"][...] *= 2
    np.testing.assert_array_equal(layer(tokens), 2 * before)


@pytest.mark.parametrize("order", ["out_in", "in_out"])
@pytest.mark.parametrize("form", ["packed", "apart"])
def test_packed_weights_are_the_layers_own(generator, dtype, tokens, form, order):
    arrays = getattr(Weights(generator, dtype), form)(order)
    layer = headwise.MultiHeadAttention(EMBED, HEADS, **arrays)
    memory = generator.normal(size=(2, 9, EMBED)).astype(dtype)
    expected, cross = layer(tokens), layer(tokens, memory)
    packed = headwise.MultiHeadAttention(EMBED, HEADS, pack_weights=True, **arrays)
    for array in arrays.values():
        if isinstance(array, np.ndarray):
            array[...] = np.nan
    for same in (packed, copy.copy(packed), copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        np.testing.assert_array_equal(same(tokens), expected)
    np.testing.assert_array_equal(packed(tokens, memory), cross)


@pytest.mark.parametrize("form", ["packed", "apart"])
@pytest.mark.parametrize("strided", [lambda x: np.repeat(x, 2)[::2], lambda x: x[::-1].copy()[::-1]])
def test_packed_biases_may_have_strides(generator, dtype, tokens, form, strided):
    arrays = getattr(Weights(generator, dtype), form)()
    expected = headwise.MultiHeadAttention(EMBED, HEADS, **arrays)(tokens)
    biases = {name: strided(array) for name, array in arrays.items() if name.endswith("bias")}
    packed = headwise.MultiHeadAttention(EMBED, HEADS, pack_weights=True, **{**arrays, **biases})
    np.testing.assert_array_equal(packed(tokens), expected)


@pytest.mark.parametrize("form", ["packed", "apart"])
def test_biases_in_the_other_form_than_weights(generator, dtype, tokens, form):
    weights = Weights(generator, dtype)
    arrays, biases = getattr(weights, form)(), weights.apart() if form == "packed" else weights.packed()
    for name in ("in_proj_bias", "q_proj_bias", "k_proj_bias", "v_proj_bias"):
        arrays.pop(name, None)
        if name in biases:
            arrays[name] = biases[name]
    output, _ = weights.expected(tokens)
    for pack in (False, True):
        layer = headwise.MultiHeadAttention(EMBED, HEADS, pack_weights=pack, **arrays)
        assert output.worst_share(layer(tokens)) <= 1


def test_arrays_must_keep_their_shapes(tokens):
    tokens = tokens.astype(np.float32)
    arrays = Weights(np.random.default_rng(34), np.float32).packed()
    for name, shape in (("in_proj_weight", (EMBED, 36)), ("out_proj_bias", (7,))):
        given = {key: array.copy() if isinstance(array, np.ndarray) else array for key, array in arrays.items()}
        layer = headwise.MultiHeadAttention(EMBED, HEADS, **given)
        given[name].resize(shape, refcheck=False)
        with pytest.raises(ValueError, match=f"shape of {name} is .*, as when the layer was made"):
            layer(tokens)


@pytest.mark.parametrize("batch_first", [True, False])
def test_the_output_may_replace_the_query(generator, dtype, batch_first):
    arrays = dict(Weights(generator, dtype).packed())
    arrays["out_proj_weight"], arrays["out_proj_bias"] = generator.normal(size=(EMBED, EMBED)).astype(dtype), None
    for without_projection in (False, True):
        if without_projection:
            arrays["out_proj_weight"] = None
        layer = headwise.MultiHeadAttention(EMBED, HEADS, batch_first=batch_first, **arrays)
        for x in (generator.normal(size=(3, 5, EMBED)).astype(dtype), np.ones((5, EMBED), dtype)):
            expected = layer(x)
            assert layer(x, out=x) is x
            np.testing.assert_array_equal(x, expected)


def test_memory_kept_between_calls_never_shows():
    """Calls of other sizes, of several threads, and copies: each result is its own, with the same bits."""
    weights = Weights(np.random.default_rng(31), np.float32)
    layer, fresh = (headwise.MultiHeadAttention(EMBED, HEADS, **weights.packed()) for _ in range(2))
    inputs = [np.random.default_rng(n).normal(size=(n, 3 + n, EMBED)).astype(np.float32) for n in (2, 5, 1, 4)]
    expected = [headwise.MultiHeadAttention(EMBED, HEADS, **weights.packed())(x) for x in inputs]
    results = [layer(x) for x in inputs * 2]
    with ThreadPoolExecutor(4) as pool:
        results += pool.map(layer, inputs * 20)
    results += [pickle.loads(pickle.dumps(layer))(x) for x in inputs]
    for i, result in enumerate(results):
        np.testing.assert_array_equal(result, expected[i % len(inputs)])
    assert len(pickle.dumps(layer)) == len(pickle.dumps(fresh))


def test_refused_call_leaves_the_layer_usable():
    layer = headwise.MultiHeadAttention(EMBED, HEADS, **Weights(np.random.default_rng(32), np.float32).packed())
    x = np.ones((2, 3, EMBED), np.float32)
    expected = layer(x)
    with pytest.raises(ValueError, match="mask"):
        layer(x, mask=np.ones((7, 7), bool))
    np.testing.assert_array_equal(layer(x), expected)


def test_heads_are_the_callers_where_nothing_is_projected_after_them():
    arrays = Weights(np.random.default_rng(33), np.float32).packed()
    layer = headwise.MultiHeadAttention(EMBED, HEADS, in_proj_weight=arrays["in_proj_weight"])
    first = layer(np.ones((1, 3, EMBED), np.float32))
    kept = first.copy()
    layer(np.zeros((1, 3, EMBED), np.float32))
    np.testing.assert_array_equal(first, kept)
