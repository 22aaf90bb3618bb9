"""Rotary position embedding."""

from __future__ import annotations

from typing import Any, Literal, Optional, TypeVar

import numpy as np

from ._arrays import as_floats, as_kind_of, as_numpy, refuse_type, refuse_value, written_to
from ._headwise import rotate_in_place
from ._types import SupportsDLPack

Array = TypeVar("Array", bound=SupportsDLPack)


def rotary_embedding(
    x: Array,
    positions: Optional[SupportsDLPack] = None,
    *,
    layout: Literal["half_split", "interleaved"] = "half_split",
    rotary_dim: int = 0,
    base: float = 10000.0,
    cosine: Optional[SupportsDLPack] = None,
    sine: Optional[SupportsDLPack] = None,
    out: Optional[SupportsDLPack] = None,
    num_threads: int = 0,
) -> Array:
    """Rotates each pair (a, b) of a token's features by its position's angle t:

        (a, b) -> (a cos t - b sin t, a sin t + b cos t)

    Args:
        x: (batch, heads, tokens, dim), any strides.
        positions: integers (tokens,) or (batch, tokens); default 0, 1, 2, ...
        layout: which features are a pair: "half_split", i and i + rotary_dim / 2 (GPT-NeoX, Llama in transformers), or
            "interleaved", 2i and 2i + 1 (GPT-J).
        rotary_dim: leading features that are rotated, even; 0 = all.
        base: the angle of pair i at position p is p * base ** (-2 i / rotary_dim), unless tables are given.
        cosine, sine: tables (positions, rotary_dim / 2).
        out: (batch, heads, tokens, dim): where to write the result; x itself rotates in place.
        num_threads: at most that many; 0 = what OpenMP would use.

    Returns:
        The rotated (batch, heads, tokens, dim).
    """
    tokens = as_floats(x, "x")
    if tokens.ndim != 4:
        raise refuse_value("number of axes of x", tokens.ndim, "4 (batch, heads, tokens, dim)")
    rotated = np.array(tokens, order="C")
    rotate_in_place(
        rotated,
        _positions(positions, tokens.shape[2]),
        layout=layout,
        rotary_dim=rotary_dim,
        base=base,
        cosine=cosine,
        sine=sine,
        num_threads=num_threads,
    )
    result: Array = as_kind_of(rotated, x) if out is None else written_to(out, rotated)
    return result


def _positions(positions: Optional[SupportsDLPack], tokens: int) -> np.ndarray[Any, Any]:
    if positions is None:
        return np.arange(tokens, dtype=np.int64)
    integers = np.asarray(positions) if isinstance(positions, (list, tuple)) else as_numpy(positions, "positions")
    if integers.dtype.kind not in "iu" and integers.size != 0:
        raise refuse_type("positions", integers.dtype, "integers")
    return integers.astype(np.int64, copy=False)
