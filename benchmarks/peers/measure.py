"""Times the peers of one case, interleaved with readings of the machine's limits.

Every module of peers lives in a process of its own that waits on a pipe while others run. All of them prepare, their
outputs are compared with float64; then rounds go over the peers back and forth, a reading of the limits before each.
A peer that took more than twice the time of the fastest in both of the first two rounds is left out of the others. The
figure used is the median of all samples; the least is kept beside it.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from cases import Case
from inputs import Reference, make_inputs
from peer import MODULES

ROUNDS = 5
SAMPLES = 2  # a round
SHORTEST = 0.005  # seconds a sample lasts at least
# libgomp's threads spin for up to 13 ms after a call; the next peer starts when they sleep.
GAP = 0.02
SLOW = 2.0  # times the fastest peer's time


@dataclass
class Settings:
    threads: int
    limits: Path  # the program headwise_machine_limits
    peers: set[str]


class Process:
    """The process of one module's peers."""

    def __init__(self, module: str, threads: int) -> None:
        environment = {
            **os.environ,
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)),
        }
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("worker.py"), module, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.version = self.ask("start")["version"]

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process of a peer ended with {self.process.wait()}")
        return json.loads(answer)  # type: ignore[no-any-return]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@dataclass
class Timing:
    """The samples of one peer, a list of seconds a round."""

    peer: str
    process: Process
    error: float
    calls: int = 0
    rounds: list[list[float]] = field(default_factory=list)

    @property
    def least(self) -> float:
        return min((min(samples) for samples in self.rounds), default=math.inf)


class Measurement:
    """Processes of peers and what they measure; use it in a with statement."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.processes: dict[str, Process] = {}

    def __enter__(self) -> Measurement:
        wanted = self.settings.peers
        for module, peers in MODULES.items():
            if wanted.intersection(peers):
                self.processes[module] = Process(module, self.settings.threads)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            process.close()

    def versions(self) -> dict[str, str]:
        return {module: process.version for module, process in self.processes.items()}

    def case(self, case: Case) -> list[dict[str, Any]]:
        """A record for each peer: its times and error, or why it is unable."""
        # The peers map the inputs: they belong into memory where there is a file system in memory.
        shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
        with tempfile.TemporaryDirectory(prefix="headwise-peers-", dir=shared) as folder:
            timings, unable = self._prepare(case, Path(folder))
        limits = []
        for turn in range(ROUNDS):
            time.sleep(GAP)
            limits.append(self._limit("read" if case.reads_memory else case.dtype))
            fastest = min((timing.least for timing in timings), default=math.inf)
            for timing in timings if turn % 2 == 0 else timings[::-1]:
                if turn > 1 and timing.least > SLOW * fastest:
                    continue
                time.sleep(GAP)
                answer = timing.process.ask("sample", peer=timing.peer, samples=SAMPLES, shortest=SHORTEST)
                timing.rounds.append(answer["times"])
                timing.calls = answer["calls"]
        for process in self.processes.values():
            process.ask("release")
        limit = statistics.median([reading for reading in limits if reading > 0.85 * max(limits)])
        common = {"case": case.name, "group": case.group, "threads": self.settings.threads}
        return [{**common, **_record(case, timing, limit)} for timing in timings] + [
            {**common, **record} for record in unable
        ]

    def _prepare(self, case: Case, folder: Path) -> tuple[list[Timing], list[dict[str, Any]]]:
        arrays = make_inputs(case)
        reference = Reference(case, arrays)
        for name, array in arrays.items():
            np.save(folder / name, array)
        timings, unable = [], []
        for module, process in self.processes.items():
            for peer in MODULES[module]:
                if peer not in self.settings.peers:
                    continue
                answer = process.ask("prepare", peer=peer, case=case.name, folder=str(folder))
                if "unable" in answer:
                    unable.append({"peer": peer, "unable": answer["unable"]})
                elif answer["taken"]:
                    result = folder / "output.tmp.npy"
                    from_the_right = answer["causal_from_the_right"] and case.queries < case.keys
                    error = reference.largest_error(np.load(result, mmap_mode="r"), from_the_right)
                    result.unlink()
                    timings.append(Timing(peer, process, error))
        return timings, unable

    def _limit(self, name: str) -> float:
        arguments = [str(self.settings.limits), str(self.settings.threads), name]
        return float(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)


def _record(case: Case, timing: Timing, limit: float) -> dict[str, Any]:
    samples = [seconds for samples in timing.rounds for seconds in samples]
    median = statistics.median(samples)
    rate = (case.bytes_read if case.reads_memory else case.flops) / median
    return {
        "peer": timing.peer,
        "milliseconds": 1e3 * median,
        "least_milliseconds": 1e3 * min(samples),
        "samples": len(samples),
        "calls_a_sample": timing.calls,
        "rate": rate,
        "limit": limit,
        "share": rate / limit,
        "error": timing.error if math.isfinite(timing.error) else "not finite",
    }
