"""The process of one module's peers: waits for commands on its input, one JSON object a line, and answers likewise.

worker.py MODULE THREADS
"""

from __future__ import annotations

import gc
import importlib
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cases import CASES
from peer import Array, Peer, Unable


def load_aligned(path: Path) -> Array:
    """An array on a 64-byte boundary, as the frameworks' own allocators give."""
    stored = np.load(path, mmap_mode="r")
    raw = np.empty(stored.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    array: Array = raw[start : start + stored.nbytes].view(stored.dtype).reshape(stored.shape)
    array[...] = stored
    return array


def seconds(call: Callable[[], Any], times: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


def sample(call: Callable[[], Any], samples: int, shortest: float) -> tuple[list[float], int]:
    """Times of a call in seconds, each the mean of so many calls that they last `shortest` seconds."""
    first = seconds(call)  # wakes threads and fills caches; that no longer matters to a call of ten samples' length
    if first > 10 * shortest:
        return [first] + [seconds(call) for _ in range(samples - 1)], 1
    end = time.perf_counter() + shortest
    while time.perf_counter() < end:
        call()
    calls = max(1, math.ceil(shortest / seconds(call, 2)))
    return [seconds(call, calls) for _ in range(samples)], calls


class Worker:
    def __init__(self, module: str, threads: int) -> None:
        loaded = importlib.import_module(f"{module}_peer")
        self.peers: dict[str, Peer] = {peer.name: peer for peer in loaded.PEERS}
        self.version, self.threads = loaded.VERSION, threads
        self.calls: dict[str, Callable[[], Any]] = {}

    def start(self) -> dict[str, Any]:
        return {"version": self.version}

    def prepare(self, peer: str, case: str, folder: str) -> dict[str, Any]:
        if not self.peers[peer].takes(CASES[case]):
            return {"taken": False}
        # Arrays for each peer alone, since some write to their inputs; queries, keys, values and mask in this order.
        paths = {path.stem: path for path in Path(folder).glob("*.npy")}
        order = [str(name) for name in ("query", "key", "value", "mask") if name in paths] or list(paths)
        arrays = {name: load_aligned(paths[name]) for name in order}
        with self.peers[peer].around():
            self.calls[peer] = self.peers[peer].prepare(CASES[case], arrays, self.threads)
            result = self.peers[peer].as_output(self.calls[peer]())
            np.save(Path(folder) / "output.tmp", result)
        return {"taken": True, "causal_from_the_right": self.peers[peer].causal_from_the_right}

    def sample(self, peer: str, samples: int, shortest: float) -> dict[str, Any]:
        gc.collect()
        gc.disable()
        with self.peers[peer].around():
            times, calls = sample(self.calls[peer], samples, shortest)
        gc.enable()
        return {"times": times, "calls": calls}

    def release(self) -> dict[str, Any]:
        self.calls.clear()
        gc.collect()
        return {}


def main() -> None:
    # Libraries print; the answers have the output for themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        arguments = json.loads(line)
        try:
            answer = getattr(worker, arguments.pop("command"))(**arguments)
        except Unable as reason:
            answer = {"unable": str(reason)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
