"""What a peer is. Each module of peers/ names its own in a list PEERS and runs in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from cases import Case
from numpy.typing import NDArray

from inputs import Arrays

Array = NDArray[Any]

# Peers by the module that holds them; one process a module.
MODULES = {
    "headwise": ("headwise",),
    "torch": ("torch", "torch-flash", "torch-math", "torch-folded", "torch-layer", "torch-sdpa-layer"),
    "onnxruntime": ("ort-attention", "ort-multi-head", "ort-group-query", "ort-layer", "ort-attention-layer"),
    "openvino": ("openvino",),
    "numpy": ("numpy",),
}


class Unable(Exception):
    """This peer cannot compute this case; the text says why."""


class Peer:
    """One way to compute attention. Made for a case, called many times, asked for its output."""

    # Whether causality aligns the last query with the last key where there are fewer queries than keys.
    causal_from_the_right = False

    def __init__(self, name: str) -> None:
        self.name = name

    def takes(self, case: Case) -> bool:
        """Whether the case is this peer's business; if so, it computes it or says in prepare why it cannot."""
        return True

    def prepare(self, case: Case, arrays: Arrays, threads: int) -> Callable[[], Array]:
        """Returns one call, with everything allocated before. Its result is (batch, heads, queries, dim), of a layer
        (batch, queries, width).

        :raises Unable: if the peer has no such thing
        """
        raise NotImplementedError

    def as_output(self, result: Any) -> Array:
        """The result of a call as an array."""
        return result  # type: ignore[no-any-return]

    def around(self) -> AbstractContextManager[Any]:
        """Entered around prepare and every sample: switches that are global."""
        return nullcontext()
