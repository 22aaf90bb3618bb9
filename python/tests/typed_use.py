"""What users write, for the type checker; lines with "# error" must be refused. Never run."""

from typing import Any

import numpy as np
import numpy.typing as npt

import headwise

Floats = npt.NDArray[np.float32]


def good(x: Floats, mask: npt.NDArray[np.bool_]) -> None:
    output: Floats = headwise.attention(x, x, x, mask=mask, causal=True, window=(3, None), key_lengths=[1, 2])
    many: tuple[Floats, ...] = headwise.attention(x, x, x, return_logsumexp=True, return_weights="mean")
    ragged: Floats = headwise.attention_varlen(x, x, x, [0, 3], np.array([0, 4]), softcap=2.0, out=output)
    merged: Floats = headwise.merge_attention([(x, x)])
    both: tuple[Floats, Floats] = headwise.merge_attention([(x, x)], return_logsumexp=True)
    sdpa: Floats = headwise.scaled_dot_product_attention(x, x, x, mask, is_causal=False, enable_gqa=True)
    rotated: Floats = headwise.rotary_embedding(x, np.arange(3), layout="interleaved", out=x)
    projected: Floats = headwise.project(x, x, x, weight_order="in_out")
    plan = headwise.AttentionPlan(
        batch=1, num_heads=2, query_length=3, key_length=4, head_dim=8, dtype=np.float64, causal=True
    )
    anything: Any = plan.run(x, x, x, mask=mask, return_weights=True)
    cache = headwise.KvCache(batch=1, num_kv_heads=2, capacity=10, head_dim=8)
    cache.append(x, x, counts=[1], rotary=True, base=500.0)
    attended: Floats = cache.attention(x, causal=True, query_position="bottom_right")
    lengths: npt.NDArray[np.int64] = cache.lengths
    layer = headwise.MultiHeadAttention(12, 3, in_proj_weight=x, weight_order="in_out")
    result: Any = layer(x, causal=True, need_weights=True)
    y, present_key, present_value, scores = headwise.onnx.attention(x, x, x, is_causal=1)
    isa: str = headwise.active_isa()
    blas: str = headwise.build_info()["blas"]
    isas: list[str] = headwise.available_isas()


def bad(x: Floats) -> None:
    headwise.attention([[1.0]], x, x)  # error
    headwise.attention(x, x, x, casual=True)  # error
    headwise.attention(x, x, x, window=3)  # error
    headwise.attention(x, x, x, query_position="middle")  # error
    headwise.attention(x, x)  # error
    headwise.scaled_dot_product_attention(x, x, x, dropout="a little")  # error
    headwise.rotary_embedding(x, layout="other")  # error
    headwise.MultiHeadAttention("12", 3)  # error
    headwise.KvCache(1, 2, 3, 4)  # error
