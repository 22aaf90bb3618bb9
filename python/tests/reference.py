"""Attention by its formula in long double, and how far a correct float32 or float64 result may be from it.

The bound is derived to first order (see tests/support/error_bound.hpp of the C++ tests, whose constants these are). It
takes errors of the inputs along, so that it also judges whole layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

Array = np.ndarray[Any, Any]
Real = np.longdouble

KEY_BLOCK = 160  # most keys summed one after another
USUAL_KEY_BLOCK = 96
EXP_ERROR, TANH_ERROR = 4, 8  # of the kernels, in rounding units
MARGIN = 1.1  # for terms of second order


@dataclass
class Approximate:
    """Exact values and how far an element may be from them."""

    value: Array
    error: Array

    def worst_share(self, actual: Any) -> float:
        """The largest difference as a share of what is allowed; infinite where special values differ."""
        got = np.asarray(actual).astype(Real)
        assert got.shape == self.value.shape, f"{got.shape} is not {self.value.shape}"
        if got.size == 0:
            return 0.0
        with np.errstate(invalid="ignore"):
            same = (got == self.value) | (np.isnan(got) & np.isnan(self.value))
            share = np.where(same, 0, np.abs(got - self.value) / self.error)
        return float(np.max(np.where(np.isnan(share), np.inf, share)))


def unit(dtype: Any) -> Any:
    return Real(np.finfo(dtype).eps) / 2


def tiny(dtype: Any) -> Any:
    return Real(np.finfo(dtype).tiny)


def exact(array: Any) -> Approximate:
    value = np.asarray(array).astype(Real)
    return Approximate(value, np.zeros_like(value))


def project(tokens: Approximate, weight: Any, bias: Any, dtype: Any) -> Approximate:
    """tokens @ weight.T + bias"""
    matrix = np.asarray(weight).astype(Real).T
    offset = np.zeros(matrix.shape[1], Real) if bias is None else np.asarray(bias).astype(Real)
    own = unit(dtype) * (matrix.shape[0] + 2) * (np.abs(tokens.value) @ np.abs(matrix) + np.abs(offset))
    propagated = tokens.error @ np.abs(matrix)
    return Approximate(tokens.value @ matrix + offset, MARGIN * own + propagated)


@dataclass
class Reference:
    output: Approximate
    weights: Approximate
    logsumexp: Approximate
    scores: dict[str, Array]


def attention(
    query: Any,
    key: Any,
    value: Any,
    *,
    dtype: Any = None,
    mask: Any = None,
    bias: Any = None,
    key_padding_mask: Any = None,
    causal: bool = False,
    window: Optional[tuple[Optional[int], Optional[int]]] = None,
    scale: Optional[float] = None,
    softcap: float = 0.0,
    query_position: str = "top_left",
    query_offsets: Any = None,
    key_lengths: Any = None,
    alibi_slopes: Any = None,
    sinks: Any = None,
) -> Reference:
    """Inputs are arrays (batch, heads, length, dim) or Approximate ones; options as headwise.attention's."""
    dtype = dtype or np.asarray(query).dtype
    q, k, v = (array if isinstance(array, Approximate) else exact(array) for array in (query, key, value))
    batch, heads, queries, dim = q.value.shape
    group = heads // k.value.shape[1]
    k, v = (Approximate(np.repeat(x.value, group, 1), np.repeat(x.error, group, 1)) for x in (k, v))
    keys = k.value.shape[2]
    factor = 1 / np.sqrt(Real(dim)) if scale is None else Real(scale)

    def product(a: Array, b: Array) -> Array:
        result: Array = a @ b.swapaxes(-1, -2)
        return result

    scores = factor * product(q.value, k.value)
    magnitude = np.abs(factor) * product(np.abs(q.value), np.abs(k.value))
    from_inputs = np.abs(factor) * (product(q.error, np.abs(k.value)) + product(np.abs(q.value), k.error))
    stages = {"scaled": scores}
    score_error = (dim + 3) * magnitude
    if softcap > 0:
        scores = Real(softcap) * np.tanh(scores / Real(softcap))
        score_error = score_error + (TANH_ERROR + 3) * np.minimum(magnitude, Real(softcap))
    stages["softcapped"] = scores

    lengths = np.full(batch, keys) if key_lengths is None else np.asarray(key_lengths)
    offsets = {"top_left": np.zeros(batch, np.int64), "bottom_right": lengths - queries, "given": query_offsets}
    position = np.arange(queries) + np.asarray(offsets[query_position]).reshape(batch, 1, 1).swapaxes(1, 2)
    position = position.reshape(batch, 1, queries, 1)
    index = np.arange(keys)
    attended = np.broadcast_to(index < lengths.reshape(batch, 1, 1, 1), scores.shape).copy()
    left, right = (None, None) if window is None else window
    if causal:
        attended &= index <= position
    if left not in (None, -1):
        attended &= index >= position - left
    if right not in (None, -1):
        attended &= index <= position + right
    if mask is not None:
        attended &= np.asarray(mask) != 0
    if key_padding_mask is not None:
        attended &= (np.asarray(key_padding_mask) == 0)[:, np.newaxis, np.newaxis, :]
    added = np.zeros_like(scores)
    roundings = 0
    if bias is not None:
        numbers = np.asarray(bias).astype(Real)
        attended &= numbers != -np.inf
        added, roundings = added + np.where(numbers == -np.inf, 0, numbers), roundings + 1
    if alibi_slopes is not None:
        slopes = np.asarray(alibi_slopes).astype(Real).reshape(1, heads, 1, 1)
        added, roundings = added + slopes * (index - position), roundings + 2
    scores = scores + added
    score_error = score_error + (roundings + 1 if roundings else 0) * (magnitude + np.abs(added))
    scores = np.where(attended, scores, -np.inf)
    stages["biased"] = scores

    sink = np.full(heads, -np.inf, Real) if sinks is None else np.asarray(sinks).astype(Real)
    sink = np.broadcast_to(sink.reshape(1, heads, 1, 1), (batch, heads, queries, 1))
    everything = np.concatenate([scores, sink], axis=3)
    with np.errstate(invalid="ignore", divide="ignore"):
        maximum = everything.max(axis=3, keepdims=True)
        powers = np.where(everything == -np.inf, 0, np.exp(everything - maximum))
        total = powers.sum(axis=3, keepdims=True)
        weights = np.where(total > 0, powers / np.where(total > 0, total, 1), 0)
        logsumexp = np.where(total > 0, np.log(total) + maximum, -np.inf)
    finite_maximum = np.where(np.isfinite(maximum), maximum, 0)
    output = weights[..., :keys] @ v.value

    # What is allowed needs no long double.
    everything, score_error, weights_with_sink, sink, finite_maximum, from_inputs = (
        array.astype(float) for array in (everything, score_error, weights, sink, finite_maximum, from_inputs)
    )
    u, exact_weights, weights = float(unit(dtype)), weights[..., :keys], weights_with_sink
    average, v_value = output.astype(float), v.value.astype(float)
    distance = np.where(weights > 0, np.abs(np.where(weights > 0, everything, 0) - finite_maximum), 0)
    key_errors = score_error + distance[..., :keys] + EXP_ERROR + 1 + from_inputs / u
    errors = np.concatenate(
        [key_errors, 2 * np.abs(np.where(np.isfinite(sink), sink, 0)) + distance[..., keys:] + 5], 3
    )
    mean_error = (weights * errors).sum(axis=3, keepdims=True)
    sums = KEY_BLOCK + np.ceil(keys / USUAL_KEY_BLOCK) + 2
    relative = weights * np.expm1(np.minimum(u * errors, 1))
    values = np.concatenate([v_value, np.zeros_like(v_value[:, :, :1])], axis=2)
    spread = np.abs(values[:, :, np.newaxis] - average[:, :, :, np.newaxis])  # [b, h, i, j, c]
    from_weights = np.einsum("bhij,bhijc->bhic", relative, spread) * np.exp(np.minimum(u * mean_error, 1))
    from_sums = u * (2 * sums + 3) * (weights[..., :keys] @ np.abs(v_value))
    from_values = weights[..., :keys] @ v.error.astype(float)
    floor = keys * float(tiny(dtype)) * np.abs(v_value).max(initial=0)
    weight_error = weights * np.expm1(np.minimum(u * (errors + mean_error + sums + 3), 1)) + float(tiny(dtype))
    logsumexp_error = u * (
        mean_error + sums + 4 * (np.abs(np.where(total > 0, logsumexp, 0).astype(float)) + np.abs(finite_maximum) + 1)
    )
    return Reference(
        output=Approximate(output, MARGIN * (from_weights + from_sums + from_values + floor)),
        weights=Approximate(exact_weights, MARGIN * weight_error[..., :keys]),
        logsumexp=Approximate(logsumexp[..., 0], MARGIN * logsumexp_error[..., 0]),
        scores=stages,
    )


def mean_over_heads(weights: Approximate, dtype: Any) -> Approximate:
    heads = weights.value.shape[1]
    mean = weights.value.mean(axis=1)
    return Approximate(mean, weights.error.mean(axis=1) + unit(dtype) * (heads + 1) * mean)


def split_heads(tokens: Approximate, heads: int) -> Approximate:
    def split(array: Array) -> Array:
        batch, length, features = array.shape
        return array.reshape(batch, length, heads, features // heads).swapaxes(1, 2)

    return Approximate(split(tokens.value), split(tokens.error))


def join_heads(heads: Approximate) -> Approximate:
    def join(array: Array) -> Array:
        batch, count, length, dim = array.shape
        return array.swapaxes(1, 2).reshape(batch, length, count * dim)

    return Approximate(join(heads.value), join(heads.error))
