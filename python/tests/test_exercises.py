"""The five exercises against tests/data/worked-examples.json, whose values were computed in long double."""

import json
from pathlib import Path

import numpy as np
import pytest

from headwise import exercises

DATA = Path(__file__).resolve().parents[2] / "tests" / "data" / "worked-examples.json"


@pytest.fixture(scope="module")
def worked():
    return json.loads(DATA.read_text())


def weights_of(data):
    return data["X"], data["Wq"], data["Wk"], data["Wv"]


def check(actual, expected):
    """Within 1e-13 of the largest number of its row: sums that cancel have no better relative error."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert actual.dtype == np.float64
    assert np.all(np.abs(actual - expected) <= 1e-13 * np.abs(expected).max(axis=-1, keepdims=True))


@pytest.mark.parametrize("create", [exercises.create_qkv, exercises.compute_qkv])
def test_exercise_1_queries_keys_and_values(worked, create):
    data = worked["five_tokens"]
    for actual, name in zip(create(*weights_of(data)), "QKV"):
        check(actual, data[name])


def test_exercise_1_scale_of_ones_own(worked):
    data = worked["five_tokens"]
    check(exercises.scaled_dot_product_attention(data["Q"], data["K"], data["V"], 0.5), data["scale_half_output"])


@pytest.mark.parametrize("attend", [exercises.multi_head_attention, exercises.multi_head_self_attention])
def test_exercise_1_heads_side_by_side(worked, attend):
    data = worked["layer_with_output_projection"]
    check(attend(*weights_of(data), 4), data["heads_output"])
    check(attend(*weights_of(data), num_heads=4), data["heads_output"])


def test_exercise_2_one_head(worked):
    data = worked["five_tokens"]
    output, weights = exercises.self_attention(*weights_of(data))
    check(output, data["one_head_output"])
    check(weights, data["one_head_weights"])


def test_exercise_2_three_heads(worked):
    data = worked["five_tokens"]
    output, weights = exercises.multi_head_attention(*weights_of(data), 3, return_weights=True)
    check(output, data["three_heads_output"])
    check(weights, data["three_heads_weights"])
    check(exercises.multi_head_attention(*weights_of(data), 3), data["three_heads_output"])


def test_exercise_2_swapping_two_tokens_swaps_their_rows_and_nothing_else(worked):
    data = worked["five_tokens"]
    order = data["swapped_tokens"]
    swapped = np.array(data["X"])[order]
    output, weights = exercises.multi_head_attention(swapped, *weights_of(data)[1:], 3, return_weights=True)
    check(output, data["swapped_three_heads_output"])
    check(weights, data["swapped_three_heads_weights"])
    check(output, np.array(data["three_heads_output"])[order])
    check(weights, np.array(data["three_heads_weights"])[:, order][:, :, order])


def test_exercise_3_two_tokens(worked):
    data = worked["two_tokens"]
    qkv = exercises.compute_qkv(*weights_of(data))
    check(exercises.self_attention(*qkv), data["output"])
    assert np.allclose(exercises.self_attention(*qkv), [[1.6604769, 2.6604769], [2.3395231, 3.3395231]], atol=5e-8)
    check(exercises.self_attention(*weights_of(data))[1], data["weights"])


def test_exercise_4_every_step_and_the_layer(worked):
    data = worked["layer_with_output_projection"]
    heads = [exercises.split_heads(matrix, 4) for matrix in exercises.create_qkv(*weights_of(data))]
    assert heads[0].shape == (4, 7, 2)
    attended = exercises.multihead_attention_per_head(*heads)
    check(attended.swapaxes(0, 1).reshape(7, 8), data["heads_output"])
    output = exercises.combine_heads_and_project(attended, data["Wo"])
    check(output, data["output"])
    layer = exercises.multihead_attention_layer(*weights_of(data), data["Wo"], 4)
    assert np.array_equal(layer, output)


@pytest.mark.parametrize("name", ["two_heads_identity", "two_heads_identity_times_1000"])
def test_exercise_5_heads_of_given_queries_keys_and_values(worked, name):
    data = worked[name]
    qkv = exercises.compute_qkv(data["X"], data["W"], data["W"], data["W"])
    output = exercises.multi_head_attention(*qkv, 2)
    check(output, data["output"])
    check(exercises.multi_head_attention(*qkv, n_heads=2), data["output"])
    if name.endswith("1000"):
        assert np.array_equal(output, data["output"])


def test_splitting_heads_is_a_view():
    matrix = np.arange(12.0).reshape(3, 4)
    assert np.shares_memory(exercises.split_heads(matrix, 2), matrix)
    assert exercises.split_heads(matrix, 2)[1].tolist() == [[2, 3], [6, 7], [10, 11]]


def test_single_precision_stays_single_precision(worked):
    data = worked["five_tokens"]
    arguments = [np.float32(matrix) for matrix in weights_of(data)]
    output, weights = exercises.self_attention(*arguments)
    assert output.dtype == weights.dtype == np.float32
    assert np.allclose(output, data["one_head_output"], atol=1e-4)


def test_a_head_count_that_does_not_divide_the_model_size_is_a_clear_error(worked):
    data = worked["five_tokens"]
    expected = r"num_heads is 4, expected a divisor of the model size \(6\)"
    for call in (
        lambda: exercises.split_heads(data["X"], 4),
        lambda: exercises.multi_head_attention(*weights_of(data), 4),
        lambda: exercises.multi_head_attention(data["Q"], data["K"], data["V"], 4),
        lambda: exercises.multihead_attention_layer(*weights_of(data), data["Wq"], 4),
    ):
        with pytest.raises(ValueError, match=expected):
            call()


def test_a_wrong_call_says_which_forms_exist(worked):
    data = worked["five_tokens"]
    x, wq, wk, wv = weights_of(data)
    with pytest.raises(TypeError) as error:
        exercises.self_attention(x, wq)
    assert str(error.value) == (
        "self_attention is called as self_attention(Q, K, V) or self_attention(X, Wq, Wk, Wv); "
        "got self_attention(list, list)"
    )
    forms = (
        "multi_head_attention(inputs, Wq, Wk, Wv, num_heads, return_weights) or multi_head_attention(Q, K, V, n_heads)"
    )
    for arguments, got in (
        ((x, wq, wk, wv), "list, list, list, list"),
        ((np.array(x), wq, 3), "array (5, 6), list, int"),
        ((x, wq, wk, 2.0), "list, list, list, float"),
        ((x, wq, wk, 3, wv), "list, list, list, int, list"),
    ):
        with pytest.raises(TypeError) as error:
            exercises.multi_head_attention(*arguments)
        assert str(error.value) == f"multi_head_attention is called as {forms}; got multi_head_attention({got})"


def test_arguments_that_are_no_matrices_are_named(worked):
    x, wq, wk, wv = weights_of(worked["five_tokens"])
    with pytest.raises(ValueError, match=r"Wk has 5 rows, expected a row per feature of the inputs \(6\)"):
        exercises.create_qkv(x, wq, wk[:5], wv)
    with pytest.raises(ValueError, match=r"X has shape \(6,\), expected a matrix"):
        exercises.split_heads(x[0], 2)
    with pytest.raises(ValueError, match="inputs is no array"):
        exercises.create_qkv([[1, 2], [3]], wq, wk, wv)
    with pytest.raises(TypeError, match="Wv holds <U1, expected real numbers"):
        exercises.create_qkv(x, wq, wk, [["a"]])
    with pytest.raises(ValueError, match=r"W_o has 6 rows, expected a row per feature of all heads \(12\)"):
        exercises.combine_heads_and_project(np.ones((2, 5, 6)), wq)
