"""Five classic exercises on attention under the names their readers know, answered by :func:`headwise.attention`.

Matrices are row-major, tokens are rows, weights multiply from the right (``X @ W``). Arguments may be lists, integers or
arrays; results are float32 where every matrix is float32 and float64 elsewhere.

Two names have two forms each, told apart by the number and kind of the arguments: :func:`self_attention` and
:func:`multi_head_attention`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

import headwise

__all__ = [
    "combine_heads_and_project",
    "compute_qkv",
    "create_qkv",
    "multi_head_attention",
    "multi_head_self_attention",
    "multihead_attention_layer",
    "multihead_attention_per_head",
    "scaled_dot_product_attention",
    "self_attention",
    "split_heads",
]

Array = NDArray[Any]


def create_qkv(inputs: ArrayLike, Wq: ArrayLike, Wk: ArrayLike, Wv: ArrayLike) -> tuple[Array, Array, Array]:
    """Queries, keys and values: ``inputs @ Wq``, ``inputs @ Wk``, ``inputs @ Wv``.

    inputs is (tokens, features), each weight matrix (features, width).
    """
    tokens, *weights = _arrays(2, inputs=inputs, Wq=Wq, Wk=Wk, Wv=Wv)
    for name, weight in zip(("Wq", "Wk", "Wv"), weights):
        _expect_rows(name, weight, tokens.shape[1], "a row per feature of the inputs")
    query, key, value = (tokens @ weight for weight in weights)
    return query, key, value


def compute_qkv(X: ArrayLike, Wq: ArrayLike, Wk: ArrayLike, Wv: ArrayLike) -> tuple[Array, Array, Array]:
    """:func:`create_qkv` by its other name."""
    return create_qkv(X, Wq, Wk, Wv)


def scaled_dot_product_attention(Q: ArrayLike, K: ArrayLike, V: ArrayLike, scale: float | None = None) -> Array:
    """``softmax(scale · Q @ K.T) @ V`` of matrices (tokens, features); without a scale, 1/√features."""
    heads = [matrix[np.newaxis] for matrix in _arrays(2, Q=Q, K=K, V=V)]
    output: Array = _attend(heads, scale)[0][0]
    return output


@overload
def self_attention(Q: ArrayLike, K: ArrayLike, V: ArrayLike) -> Array: ...
@overload
def self_attention(X: ArrayLike, Wq: ArrayLike, Wk: ArrayLike, Wv: ArrayLike) -> tuple[Array, Array]: ...
def self_attention(*arguments: Any, **named: Any) -> Any:
    """``self_attention(Q, K, V)`` → output; ``self_attention(X, Wq, Wk, Wv)`` → (output, weights).

    The output is (tokens, width); weights is the attention matrix (tokens, tokens), whose rows sum to 1.
    """
    return _choose_form("self_attention", (_self_attention_of_qkv, _self_attention_of_tokens), arguments, named)


@overload
def multi_head_attention(Q: ArrayLike, K: ArrayLike, V: ArrayLike, n_heads: int) -> Array: ...
@overload
def multi_head_attention(
    inputs: ArrayLike, Wq: ArrayLike, Wk: ArrayLike, Wv: ArrayLike, num_heads: int, return_weights: Literal[False] = ...
) -> Array: ...
@overload
def multi_head_attention(
    inputs: ArrayLike, Wq: ArrayLike, Wk: ArrayLike, Wv: ArrayLike, num_heads: int, return_weights: bool
) -> Array | tuple[Array, Array]: ...
def multi_head_attention(*arguments: Any, **named: Any) -> Any:
    """Heads side by side, with no output projection.

    ``multi_head_attention(inputs, Wq, Wk, Wv, num_heads)`` → output (tokens, width), with ``return_weights=True`` →
    (output, weights (heads, tokens, tokens)); ``multi_head_attention(Q, K, V, n_heads)`` → output of matrices that are
    already projected.
    """
    forms = (multi_head_self_attention, _multi_head_attention_of_qkv)
    return _choose_form("multi_head_attention", forms, arguments, named)


def multi_head_self_attention(
    inputs: ArrayLike, Wq: ArrayLike, Wk: ArrayLike, Wv: ArrayLike, num_heads: int, return_weights: bool = False
) -> Any:
    """Self-attention of inputs with several heads, concatenated: :func:`multi_head_attention` of inputs and weights."""
    heads = [split_heads(matrix, num_heads) for matrix in create_qkv(inputs, Wq, Wk, Wv)]
    output, weights = _attend(heads)
    return (_side_by_side(output), weights) if return_weights else _side_by_side(output)


def split_heads(X: ArrayLike, num_heads: int) -> Array:
    """(tokens, model) → (heads, tokens, model / heads), a view of X where X is an array of floating-point numbers."""
    (matrix,) = _arrays(2, X=X)
    tokens, model = matrix.shape
    if num_heads < 1 or model % num_heads:
        raise ValueError(f"num_heads is {num_heads}, expected a divisor of the model size ({model})")
    return matrix.reshape(tokens, num_heads, model // num_heads).swapaxes(0, 1)


def multihead_attention_per_head(Q_heads: ArrayLike, K_heads: ArrayLike, V_heads: ArrayLike) -> Array:
    """Attention of every head apart: (heads, tokens, features) each → (heads, tokens, features of V)."""
    return _attend(_arrays(3, Q_heads=Q_heads, K_heads=K_heads, V_heads=V_heads))[0]


def combine_heads_and_project(head_outputs: ArrayLike, W_o: ArrayLike) -> Array:
    """(heads, tokens, features) → heads side by side (tokens, heads · features) → times W_o."""
    (heads,) = _arrays(3, head_outputs=head_outputs)
    (weight,) = _arrays(2, W_o=W_o)
    combined = _side_by_side(heads)
    _expect_rows("W_o", weight, combined.shape[1], "a row per feature of all heads")
    return combined @ weight


def multihead_attention_layer(
    X: ArrayLike, W_q: ArrayLike, W_k: ArrayLike, W_v: ArrayLike, W_o: ArrayLike, num_heads: int
) -> Array:
    """The whole layer: project, split heads, attend, combine and project. X is (tokens, model)."""
    heads = (split_heads(matrix, num_heads) for matrix in create_qkv(X, W_q, W_k, W_v))
    return combine_heads_and_project(multihead_attention_per_head(*heads), W_o)


def _self_attention_of_qkv(Q: ArrayLike, K: ArrayLike, V: ArrayLike) -> Array:
    return scaled_dot_product_attention(Q, K, V)


def _self_attention_of_tokens(X: ArrayLike, Wq: ArrayLike, Wk: ArrayLike, Wv: ArrayLike) -> tuple[Array, Array]:
    output, weights = multi_head_self_attention(X, Wq, Wk, Wv, 1, return_weights=True)
    return output, weights[0]


def _multi_head_attention_of_qkv(Q: ArrayLike, K: ArrayLike, V: ArrayLike, n_heads: int) -> Array:
    heads = (split_heads(matrix, n_heads) for matrix in _arrays(2, Q=Q, K=K, V=V))
    return _side_by_side(multihead_attention_per_head(*heads))


def _attend(heads: list[Array], scale: float | None = None) -> tuple[Array, Array]:
    """Output and weights of attention over queries, keys and values (heads, tokens, features)."""
    query, key, value = (array[np.newaxis] for array in heads)
    output, weights = headwise.attention(query, key, value, scale=scale, return_weights=True)
    return output[0], weights[0]


def _side_by_side(heads: Array) -> Array:
    return heads.swapaxes(0, 1).reshape(heads.shape[1], heads.shape[0] * heads.shape[2])


def _arrays(rank: int, **given: ArrayLike) -> list[Array]:
    """The given arguments as arrays of one floating-point type, each of the given rank."""
    expected = {2: "a matrix", 3: "(heads, tokens, features)"}[rank]
    arrays = []
    for name, argument in given.items():
        try:
            array = np.asarray(argument)
        except ValueError as error:
            raise ValueError(f"{name} is no array: {error}") from None
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{name} holds {array.dtype}, expected real numbers")
        if array.ndim != rank:
            raise ValueError(f"{name} has shape {array.shape}, expected {expected}")
        arrays.append(array)
    single = all(array.dtype == np.float32 for array in arrays)
    return [array.astype(np.float32 if single else np.float64, copy=False) for array in arrays]


def _expect_rows(name: str, weight: Array, rows: int, reason: str) -> None:
    if weight.shape[0] != rows:
        raise ValueError(f"{name} has {weight.shape[0]} rows, expected {reason} ({rows})")


def _choose_form(name: str, forms: tuple[Callable[..., Any], ...], arguments: tuple[Any, ...], named: Any) -> Any:
    """Calls the form whose number and kind of arguments are given, or says which forms exist."""
    for form in forms:
        try:
            bound = inspect.signature(form).bind(*arguments, **named).arguments
        except TypeError:
            continue
        # What tells a matrix from a number of heads is whether it is a whole number.
        if all(
            isinstance(value, (int, np.integer)) == (parameter in ("num_heads", "n_heads", "return_weights"))
            for parameter, value in bound.items()
        ):
            return form(**bound)
    known = " or ".join(f"{name}({', '.join(inspect.signature(form).parameters)})" for form in forms)
    kinds = [_kind(argument) for argument in arguments] + [f"{key}={_kind(value)}" for key, value in named.items()]
    raise TypeError(f"{name} is called as {known}; got {name}({', '.join(kinds)})")


def _kind(argument: Any) -> str:
    shape = getattr(argument, "shape", None)
    return f"array {shape}" if shape else type(argument).__name__
