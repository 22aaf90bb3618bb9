"""Memory for intermediate results, kept from call to call."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Floats = np.ndarray[Any, Any]


class Scratch:
    """Arrays by name. A large array of its own costs every call fresh pages: 7 % of a layer of 8 × 512 × 768."""

    def __init__(self) -> None:
        self._kept: dict[str, Floats] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> Floats:
        """An array that holds anything; the memory of the last one of that name where it is large enough."""
        size = math.prod(shape)
        kept = self._kept.get(name)
        if kept is None or kept.size < size or kept.dtype != dtype:
            kept = self._kept[name] = np.empty(size, dtype)
        return kept[:size].reshape(shape)


class ScratchPool:
    """Gives each call a Scratch of its own, and keeps one of them."""

    def __init__(self) -> None:
        self._idle: list[Scratch] = []

    def borrow(self) -> Scratch:
        try:
            return self._idle.pop()  # one step, so that no two threads get the same
        except IndexError:
            return Scratch()

    def give_back(self, scratch: Scratch) -> None:
        self._idle[:] = [scratch]

    def __reduce__(self) -> tuple[type[ScratchPool], tuple[()]]:
        return ScratchPool, ()  # copies and pickles start without memory
