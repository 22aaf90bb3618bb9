"""Multi-head attention for CPUs.

Arrays are NumPy's or any with DLPack on the CPU (torch's tensors, for instance), float32 or float64, read and written
where they lie. Outputs are torch tensors where the query is one, else NumPy arrays.
"""

from . import onnx
from ._headwise import (
    AttentionPlan,
    KvCache,
    active_isa,
    attention,
    attention_varlen,
    available_isas,
    build_info,
    merge_attention,
    project,
    version,
)
from ._layer import MultiHeadAttention
from ._rotary import rotary_embedding
from ._sdpa import scaled_dot_product_attention

__version__ = version()
__all__ = [
    "AttentionPlan",
    "KvCache",
    "MultiHeadAttention",
    "active_isa",
    "attention",
    "attention_varlen",
    "available_isas",
    "build_info",
    "merge_attention",
    "onnx",
    "project",
    "rotary_embedding",
    "scaled_dot_product_attention",
]
