"""The formula in NumPy: what one writes without a library."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from cases import Case
from inputs import Arrays
from peer import Array, Peer


class NumPy(Peer):
    def prepare(self, case: Case, arrays: Arrays, threads: int) -> Callable[[], Array]:
        dtype = np.dtype(case.dtype).type
        scale, excluded = dtype(1 / math.sqrt(case.dim)), dtype(-np.inf)
        causal = np.tril(np.ones((case.queries, case.keys), bool)) if case.causal else None
        mask = arrays.get("mask")

        def attend(query: Array, key: Array, value: Array) -> Array:
            scores = (query * scale) @ key.swapaxes(-1, -2)
            if causal is not None:
                scores = np.where(causal, scores, excluded)
            if mask is not None:
                scores = np.where(mask, scores, excluded) if mask.dtype == bool else scores + mask
            scores -= scores.max(axis=-1, keepdims=True)
            np.exp(scores, out=scores)
            scores /= scores.sum(axis=-1, keepdims=True)
            output: Array = scores @ value
            return output

        if case.layer:
            shape = (case.batch, case.queries, case.heads * case.dim)

            def layer() -> Array:
                projected = arrays["x"] @ arrays["in_weight"].T + arrays["in_bias"]
                heads = projected.reshape(*shape[:2], 3, case.heads, case.dim).transpose(2, 0, 3, 1, 4)
                attended = attend(*heads).transpose(0, 2, 1, 3).reshape(shape)
                return attended @ arrays["out_weight"].T + arrays["out_bias"]

            return layer
        query, key, value = (arrays[name] for name in ("query", "key", "value"))
        if case.heads == case.kv_heads:
            return lambda: attend(query, key, value)
        grouped = query.reshape(case.batch, case.kv_heads, -1, case.queries, case.dim)
        return lambda: attend(grouped, key[:, :, None], value[:, :, None]).reshape(query.shape)


PEERS = [NumPy("numpy")]
VERSION = np.__version__
