"""torch.nn.functional.scaled_dot_product_attention under its own name and signature."""

from __future__ import annotations

from typing import Any, Optional, TypeVar

import numpy as np

from ._arrays import as_floats, as_kind_of, as_numpy, expect_type, refuse_type, refuse_value
from ._headwise import attention
from ._types import SupportsDLPack

Array = TypeVar("Array", bound=SupportsDLPack)
View = np.ndarray[Any, Any]


def scaled_dot_product_attention(
    query: Array,
    key: SupportsDLPack,
    value: SupportsDLPack,
    attn_mask: Optional[SupportsDLPack] = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: Optional[float] = None,
    enable_gqa: bool = False,
) -> Array:
    """torch.nn.functional.scaled_dot_product_attention on the CPU, for NumPy arrays and torch tensors.

    Nothing is copied but arrays of five and more axes whose leading axes do not join, and masks of another
    floating-point type than query.

    Args:
        query: (..., heads, L, E); fewer axes, (L, E) at least, as in torch. Leading axes broadcast.
        key: (..., heads, S, E).
        value: (..., heads, S, Ev).
        attn_mask: broadcasts to (..., heads, L, S): bool, true = attend, or numbers added to the scores.
        dropout_p: 0; headwise has no dropout.
        is_causal: query i attends keys 0 to i; not together with attn_mask.
        scale: factor of the scores, default 1 / sqrt(E).
        enable_gqa: key and value may have fewer heads, a divisor of query's.

    Returns:
        (..., heads, L, Ev). A row that attends no key is 0, as in torch.
    """
    if dropout_p != 0:
        raise refuse_value("dropout_p", dropout_p, "0: headwise has no dropout")
    if is_causal and attn_mask is not None:
        raise refuse_value("attn_mask", "given", "None with is_causal=True")
    if attn_mask is None and _has_plain_axes(query, key, value):
        direct: Array = attention(query, key, value, causal=is_causal, scale=scale)
        return direct
    q, k, v = as_floats(query, "query"), as_floats(key, "key"), as_floats(value, "value")
    for name, array in (("query", q), ("key", k), ("value", v)):
        expect_type(array, name, q.dtype, "the type of query")
        if array.ndim < 2:
            raise refuse_value(f"number of axes of {name}", array.ndim, "at least 2 (..., length, dim)")

    axes = max(q.ndim, k.ndim, v.ndim)
    q, k, v = (array.reshape((1,) * (axes - array.ndim) + array.shape) for array in (q, k, v))
    heads_axis = axes - 3
    grouped = enable_gqa and axes > 2
    if grouped and (k.shape[heads_axis] != v.shape[heads_axis] or q.shape[heads_axis] % max(k.shape[heads_axis], 1)):
        expected = f"a divisor of query's {q.shape[heads_axis]} in key and value alike"
        raise refuse_value("heads of key and value", f"{k.shape[heads_axis]} and {v.shape[heads_axis]}", expected)
    shared = axes - 3 if grouped else axes - 2  # leading axes that must agree
    leading = _broadcast_shape(q.shape[:shared], k.shape[:shared], v.shape[:shared])
    q, k, v = (_to_four_axes(_broadcast_leading(array, leading)) for array in (q, k, v))
    scores_leading = leading + ((q.shape[1],) if grouped else ())
    mask = {} if attn_mask is None else _mask(attn_mask, q, scores_leading + (q.shape[2], k.shape[2]))
    result: View = attention(q, k, v, causal=is_causal, scale=scale, **mask)
    return _as_array(result.reshape(scores_leading + result.shape[2:]), query)


def _has_plain_axes(query: Any, key: Any, value: Any) -> bool:
    """Whether attention() takes the arrays as they are: (batch, heads, length, dim) each, with the same leading axes."""
    try:
        shape = query.shape
        return len(shape) == 4 and shape[:2] == key.shape[:2] == value.shape[:2] and len(key.shape) == len(value.shape) == 4
    except (AttributeError, TypeError):
        return False


def _as_array(result: View, query: Array) -> Array:
    array: Array = as_kind_of(result, query)
    return array


def _broadcast_shape(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    if shapes[0] == shapes[1] == shapes[2]:
        return shapes[0]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        texts = ", ".join(str(shape) for shape in shapes)
        raise refuse_value("leading axes of query, key and value", texts, "shapes that broadcast") from None


def _broadcast_leading(array: View, leading: tuple[int, ...]) -> View:
    shared = len(leading)
    return array if array.shape[:shared] == leading else np.broadcast_to(array, leading + array.shape[shared:])


def _to_four_axes(array: View) -> View:
    """[batch, heads, length, dim]; a view where there are at most four axes."""
    if array.ndim == 4:
        return array
    if array.ndim < 4:
        return array.reshape((1,) * (4 - array.ndim) + array.shape)
    return array.reshape((-1 if array.size else _product(array.shape[:-3]),) + array.shape[-3:])


def _product(extents: tuple[int, ...]) -> int:
    product = 1
    for extent in extents:
        product *= extent
    return product


def _mask(attn_mask: Any, query: View, scores_shape: tuple[int, ...]) -> dict[str, Any]:
    """The keyword of attention() that takes the mask."""
    mask = as_numpy(attn_mask, "attn_mask")
    if mask.dtype != np.bool_ and mask.dtype.kind != "f":
        raise refuse_type("attn_mask", mask.dtype, f"bool or {query.dtype}")
    try:
        np.broadcast_to(mask, scores_shape)
    except ValueError:
        raise refuse_value("shape of attn_mask", mask.shape, f"one that broadcasts to {scores_shape}") from None
    if mask.dtype != np.bool_:
        mask = mask.astype(query.dtype, copy=False)
    if len(scores_shape) > 4 and mask.ndim > 3:
        mask = _to_four_axes(np.broadcast_to(mask, scores_shape[:-3] + mask.shape[-3:]))
    return {"mask" if mask.dtype == np.bool_ else "bias": mask}
