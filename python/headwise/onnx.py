"""The ONNX operators Attention and RotaryEmbedding, opsets 23 to 25, under their own names.

Inputs and attributes are the operators', as specified at https://onnx.ai/onnx/operators/. Types are float32 and
float64; convert float16 and bfloat16 to float32 before and back after.
"""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from ._arrays import as_floats, as_kind_of, as_numpy, refuse_type, refuse_value
from ._headwise import onnx_attention, rotate_in_place

__all__ = ["attention", "rotary_embedding"]


def attention(
    Q: Any,
    K: Any,
    V: Any,
    attn_mask: Any = None,
    past_key: Any = None,
    past_value: Any = None,
    nonpad_kv_seqlen: Any = None,
    *,
    is_causal: int = 0,
    kv_num_heads: Optional[int] = None,
    q_num_heads: Optional[int] = None,
    qk_matmul_output_mode: int = 0,
    scale: Optional[float] = None,
    softcap: float = 0.0,
    softmax_precision: Optional[int] = None,
    left_window_size: int = -1,
    right_window_size: int = -1,
    num_outputs: int = 4,
    num_threads: int = 0,
) -> tuple[Any, Any, Any, Any]:
    """ONNX Attention.

    Args:
        Q: (batch, q_num_heads, q_sequence, head_size) or (batch, q_sequence, q_num_heads * head_size).
        K: (batch, kv_num_heads, kv_sequence, head_size) or (batch, kv_sequence, kv_num_heads * head_size).
        V: (batch, kv_num_heads, kv_sequence, v_head_size) or (batch, kv_sequence, kv_num_heads * v_head_size).
        attn_mask: broadcasts to (batch, q_num_heads, q_sequence, total_sequence); bool, true = attend, or numbers to
            add. A last axis shorter than total_sequence excludes the keys it lacks.
        past_key, past_value: (batch, kv_num_heads, past_sequence, head_size or v_head_size).
        nonpad_kv_seqlen: (batch,) int64: keys that count.
        num_outputs: how many outputs are computed; the others are None.
        num_threads: at most that many; 0 = what OpenMP would use.

    Returns:
        (Y, present_key, present_value, qk_matmul_output).
    """
    attributes = {
        "is_causal": is_causal,
        "kv_num_heads": kv_num_heads,
        "q_num_heads": q_num_heads,
        "qk_matmul_output_mode": qk_matmul_output_mode,
        "scale": scale,
        "softcap": softcap,
        "softmax_precision": softmax_precision,
        "left_window_size": left_window_size,
        "right_window_size": right_window_size,
    }
    return onnx_attention(
        Q, K, V, attn_mask, past_key, past_value, nonpad_kv_seqlen, attributes, num_outputs, num_threads
    )


def rotary_embedding(
    X: Any,
    cos_cache: Any,
    sin_cache: Any,
    position_ids: Any = None,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    num_threads: int = 0,
) -> Any:
    """ONNX RotaryEmbedding.

    Args:
        X: (batch, num_heads, sequence, head_size) or (batch, sequence, num_heads * head_size).
        cos_cache, sin_cache: (positions, rotary_embedding_dim / 2), or (batch, sequence, rotary_embedding_dim / 2)
            without position_ids.
        position_ids: (batch, sequence) int64.

    Returns:
        Y, of X's shape.
    """
    x = as_floats(X, "X")
    if x.ndim not in (3, 4):
        raise refuse_value("number of axes of X", x.ndim, "3 or 4")
    if x.ndim == 3 and (num_heads < 1 or x.shape[2] % num_heads != 0):
        raise refuse_value("num_heads", num_heads, f"a divisor of X's {x.shape[2]} features")
    rotated = np.array(x, order="C")
    tokens = rotated
    if x.ndim == 3:
        batch, sequence, features = x.shape
        tokens = rotated.reshape(batch, sequence, num_heads, features // num_heads).swapaxes(1, 2)
    cosine, sine = as_floats(cos_cache, "cos_cache"), as_floats(sin_cache, "sin_cache")
    if position_ids is None:
        batch, sequence = tokens.shape[0], tokens.shape[2]
        positions = np.arange(batch * sequence, dtype=np.int64).reshape(batch, sequence)
        for name, cache in (("cos_cache", cosine), ("sin_cache", sine)):
            if cache.ndim != 3 or cache.shape[:2] != positions.shape:
                expected = f"{positions.shape} (batch, sequence) and a last axis, without position_ids"
                raise refuse_value(f"shape of {name}", cache.shape, expected)
        cosine, sine = (cache.reshape(batch * sequence, cache.shape[2]) for cache in (cosine, sine))
    else:
        positions = as_numpy(position_ids, "position_ids")
        if positions.dtype.kind not in "iu":
            raise refuse_type("position_ids", positions.dtype, "int64")
        positions = positions.astype(np.int64, copy=False)
    rotate_in_place(
        tokens,
        positions,
        layout="interleaved" if interleaved else "half_split",
        rotary_dim=rotary_embedding_dim,
        cosine=cosine,
        sine=sine,
        num_threads=num_threads,
    )
    return as_kind_of(rotated, X)
