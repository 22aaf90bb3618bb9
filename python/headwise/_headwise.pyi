from typing import Any, Literal, Optional, Sequence, TypeVar, Union, overload

import numpy as np
import numpy.typing as npt

from typing_extensions import Unpack

from ._types import Integers, Numbers, Options, PlanOptions, RotaryOptions, RunOptions, Stage, SupportsDLPack

Array = TypeVar("Array", bound=SupportsDLPack)

def version() -> str: ...
def active_isa() -> str: ...
def available_isas() -> list[str]: ...
def build_info() -> dict[str, str]: ...
@overload
def attention(
    query: Array,
    key: SupportsDLPack,
    value: SupportsDLPack,
    *,
    return_logsumexp: Literal[False] = False,
    return_weights: Literal[False] = False,
    return_scores: None = None,
    **options: Unpack[Options],
) -> Array: ...
@overload
def attention(
    query: Array,
    key: SupportsDLPack,
    value: SupportsDLPack,
    *,
    return_logsumexp: bool = False,
    return_weights: Union[bool, Literal["mean"]] = False,
    return_scores: Optional[Stage] = None,
    **options: Unpack[Options],
) -> tuple[Array, ...]: ...
@overload
def attention_varlen(
    query: Array,
    key: SupportsDLPack,
    value: SupportsDLPack,
    query_starts: Integers,
    key_starts: Integers,
    *,
    return_logsumexp: Literal[False] = False,
    return_weights: Literal[False] = False,
    return_scores: None = None,
    **options: Unpack[Options],
) -> Array: ...
@overload
def attention_varlen(
    query: Array,
    key: SupportsDLPack,
    value: SupportsDLPack,
    query_starts: Integers,
    key_starts: Integers,
    *,
    return_logsumexp: bool = False,
    return_weights: Union[bool, Literal["mean"]] = False,
    return_scores: Optional[Stage] = None,
    **options: Unpack[Options],
) -> tuple[Array, ...]: ...
def project(
    input: Array,
    weight: SupportsDLPack,
    bias: Optional[Numbers] = None,
    *,
    weight_order: Literal["out_in", "in_out"] = "out_in",
    out: Optional[SupportsDLPack] = None,
    num_threads: int = 0,
) -> Array: ...
def rotate_in_place(x: SupportsDLPack, positions: SupportsDLPack, **options: Unpack[RotaryOptions]) -> None: ...
@overload
def merge_attention(
    parts: Sequence[tuple[Array, SupportsDLPack]],
    *,
    return_logsumexp: Literal[False] = False,
    out: Optional[SupportsDLPack] = None,
) -> Array: ...
@overload
def merge_attention(
    parts: Sequence[tuple[Array, SupportsDLPack]],
    *,
    return_logsumexp: Literal[True],
    out: Optional[SupportsDLPack] = None,
) -> tuple[Array, Array]: ...
def onnx_attention(
    Q: Any,
    K: Any,
    V: Any,
    attn_mask: Any,
    past_key: Any,
    past_value: Any,
    nonpad_kv_seqlen: Any,
    attributes: dict[str, Any],
    num_outputs: int,
    num_threads: int,
) -> tuple[Any, Any, Any, Any]: ...
def _time_attention(repeats: int) -> float: ...

class _Layer:
    def __init__(
        self,
        arrays: dict[str, Any],
        num_heads: int,
        num_kv_heads: int,
        weight_order: Literal["out_in", "in_out"],
        batch_first: bool,
        pack: bool,
    ) -> None: ...
    def run(self, query: Any, key: Any, value: Any, **options: Any) -> Any: ...

class AttentionPlan:
    def __init__(
        self,
        *,
        batch: int,
        num_heads: int,
        query_length: int,
        key_length: int,
        head_dim: int,
        num_kv_heads: Optional[int] = None,
        value_dim: Optional[int] = None,
        dtype: npt.DTypeLike = "float32",
        return_scores: Optional[Stage] = None,
        **options: Unpack[PlanOptions],
    ) -> None: ...
    def run(
        self,
        query: SupportsDLPack,
        key: SupportsDLPack,
        value: SupportsDLPack,
        *,
        return_logsumexp: bool = False,
        return_weights: Union[bool, Literal["mean"]] = False,
        **options: Unpack[RunOptions],
    ) -> Any: ...
    def path(self, query_length: int, row: int = 0) -> Literal["query_tile", "row_dot"]: ...

class KvCache:
    def __init__(
        self,
        *,
        batch: int,
        num_kv_heads: int,
        capacity: int,
        head_dim: int,
        value_dim: Optional[int] = None,
        ring: bool = False,
        dtype: npt.DTypeLike = "float32",
    ) -> None: ...
    def append(
        self,
        key: SupportsDLPack,
        value: SupportsDLPack,
        counts: Optional[Integers] = None,
        *,
        rotary: bool = False,
        **options: Unpack[RotaryOptions],
    ) -> None: ...
    def truncate(self, lengths: Integers) -> None: ...
    def reorder(self, source: Integers) -> None: ...
    @overload
    def attention(
        self,
        query: Array,
        *,
        return_logsumexp: Literal[False] = False,
        return_weights: Literal[False] = False,
        return_scores: None = None,
        **options: Unpack[Options],
    ) -> Array: ...
    @overload
    def attention(
        self,
        query: Array,
        *,
        return_logsumexp: bool = False,
        return_weights: Union[bool, Literal["mean"]] = False,
        return_scores: Optional[Stage] = None,
        **options: Unpack[Options],
    ) -> tuple[Array, ...]: ...
    @property
    def lengths(self) -> npt.NDArray[np.int64]: ...
    @property
    def first_positions(self) -> npt.NDArray[np.int64]: ...
    @property
    def keys(self) -> npt.NDArray[Any]: ...
    @property
    def values(self) -> npt.NDArray[Any]: ...
