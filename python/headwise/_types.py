"""Types of the module's arguments, for type checkers."""

from __future__ import annotations

from typing import Any, Literal, Optional, Protocol, Sequence, TypedDict, Union


class SupportsDLPack(Protocol):
    """An array: numpy.ndarray, torch.Tensor or any other with DLPack, on the CPU."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...

    def __dlpack_device__(self) -> tuple[Any, Any]: ...


Integers = Union[Sequence[int], SupportsDLPack]
Numbers = Union[Sequence[float], SupportsDLPack]
Stage = Literal["scaled", "softcapped", "biased"]


class PlanOptions(TypedDict, total=False):
    """The options of attention() that are fixed for a plan."""

    causal: bool
    window: Optional[tuple[Optional[int], Optional[int]]]
    scale: Optional[float]
    softcap: float
    query_position: Literal["top_left", "bottom_right", "given"]
    num_threads: int


class RunOptions(TypedDict, total=False):
    """The options of attention() that may differ in every run."""

    mask: Optional[SupportsDLPack]
    bias: Optional[SupportsDLPack]
    key_padding_mask: Optional[SupportsDLPack]
    query_offsets: Optional[Integers]
    key_lengths: Optional[Integers]
    alibi_slopes: Optional[Numbers]
    sinks: Optional[Numbers]
    out: Optional[SupportsDLPack]


class Options(PlanOptions, RunOptions, total=False):
    """The options of attention()."""


class RotaryOptions(TypedDict, total=False):
    """The options of rotary_embedding()."""

    layout: Literal["half_split", "interleaved"]
    rotary_dim: int
    base: float
    cosine: Optional[SupportsDLPack]
    sine: Optional[SupportsDLPack]
    num_threads: int
