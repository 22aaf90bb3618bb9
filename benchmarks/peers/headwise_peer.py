"""headwise itself, through its Python module."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

import numpy as np
from cases import Case
from inputs import Arrays
from peer import Array, Peer

import headwise


class Headwise(Peer):
    def prepare(self, case: Case, arrays: Arrays, threads: int) -> Callable[[], Array]:
        if case.layer:
            layer = headwise.MultiHeadAttention(
                case.heads * case.dim,
                case.heads,
                in_proj_weight=arrays["in_weight"],
                in_proj_bias=arrays["in_bias"],
                out_proj_weight=arrays["out_weight"],
                out_proj_bias=arrays["out_bias"],
                pack_weights=True,  # as ONNX Runtime and OpenVINO do with constants
            )
            return lambda: layer(arrays["x"], num_threads=threads)
        query, key, value = (arrays[name] for name in ("query", "key", "value"))
        output = np.empty_like(query)
        mask = arrays["mask"] if case.mask == "bool" else None
        bias = arrays["mask"] if case.mask == "float" else None

        def call() -> Array:
            headwise.attention(
                query, key, value, mask=mask, bias=bias, causal=case.causal, num_threads=threads, out=output
            )
            return output

        return call


PEERS = [Headwise("headwise")]
_INFO = headwise.build_info()
VERSION = f"{version('headwise')} ({headwise.active_isa()}; {_INFO['blas'].split(' NO_')[0]}, core {_INFO['blas_core']})"
