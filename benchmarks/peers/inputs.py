"""The inputs of a case, the same in every run, and what attention makes of them in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from cases import Case
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]

# Score elements of a reference; longer cases are judged on a sample of their rows.
_LARGEST_REFERENCE = 4_000_000


def make_inputs(case: Case) -> Arrays:
    random = np.random.default_rng(sum(map(ord, case.name)))
    dtype = np.dtype(case.dtype).type

    def normal(*shape: int) -> NDArray[Any]:
        return random.standard_normal(shape, dtype=dtype)

    if case.layer:
        width = case.heads * case.dim
        return {
            "x": normal(case.batch, case.queries, width),
            "in_weight": normal(3 * width, width) * dtype(width**-0.5),
            "in_bias": normal(3 * width) * dtype(0.1),
            "out_weight": normal(width, width) * dtype(width**-0.5),
            "out_bias": normal(width) * dtype(0.1),
        }
    arrays = {
        "query": normal(case.batch, case.heads, case.queries, case.dim),
        "key": normal(case.batch, case.kv_heads, case.keys, case.dim),
        "value": normal(case.batch, case.kv_heads, case.keys, case.dim),
    }
    if case.mask == "bool":
        arrays["mask"] = random.random((1, 1, case.queries, case.keys)) < 0.5
    elif case.mask == "float":
        slopes = 2.0 ** (-8.0 * (np.arange(case.heads) + 1) / case.heads)
        distances = np.abs(np.arange(case.queries)[:, None] - np.arange(case.keys))
        arrays["mask"] = (-slopes[None, :, None, None] * distances).astype(dtype)
    return arrays


class Reference:
    """What a case makes of its inputs in float64; computed once for all peers."""

    def __init__(self, case: Case, arrays: Arrays) -> None:
        self._case, self._arrays = case, arrays
        self._rows: dict[bool, list[tuple[Any, NDArray[Any]]]] = {}

    def largest_error(self, output: NDArray[Any], causal_from_the_right: bool = False) -> float:
        """Largest absolute difference over the rows that are judged; infinite if any is not finite."""
        if causal_from_the_right not in self._rows:
            self._rows[causal_from_the_right] = list(_reference(self._case, self._arrays, causal_from_the_right))
        worst = 0.0
        for index, expected in self._rows[causal_from_the_right]:
            actual = output[index]
            if not np.isfinite(actual).all():
                return math.inf
            worst = max(worst, float(np.max(np.abs(actual - expected))))
        return worst


def _softmax(scores: NDArray[Any]) -> NDArray[Any]:
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    normalised: NDArray[Any] = weights / weights.sum(-1, keepdims=True)
    return normalised


def _reference(case: Case, arrays: Arrays, causal_from_the_right: bool) -> Any:
    """Pairs of an index into the output and its values."""
    if case.layer:
        yield (Ellipsis,), _layer_reference(case, arrays)
        return
    random = np.random.default_rng(1)
    affordable = max(4, _LARGEST_REFERENCE // (case.batch * case.heads * case.keys))
    rows = np.arange(case.queries)
    if affordable < case.queries:
        rows = np.unique(np.r_[0, case.queries - 1, random.integers(0, case.queries, affordable)])
    offset = case.keys - case.queries if causal_from_the_right else 0
    for batch in range(0, case.batch, max(1, case.batch // 8)):
        for head in range(case.heads):
            kv_head = head // (case.heads // case.kv_heads)
            query, key, value = (
                array.astype(np.float64)
                for array in (
                    arrays["query"][batch, head, rows],
                    arrays["key"][batch, kv_head],
                    arrays["value"][batch, kv_head],
                )
            )
            scores = query @ key.T / math.sqrt(case.dim)
            if case.mask:
                mask = arrays["mask"][0, min(head, arrays["mask"].shape[1] - 1), rows]
                scores = np.where(mask, scores, -np.inf) if case.mask == "bool" else scores + mask
            if case.causal or causal_from_the_right:
                scores[np.arange(case.keys) > rows[:, None] + offset] = -np.inf
            yield (batch, head, rows), _softmax(scores) @ value


def _layer_reference(case: Case, arrays: Arrays) -> NDArray[Any]:
    exact = {name: array.astype(np.float64) for name, array in arrays.items()}
    width = case.heads * case.dim
    projected = exact["x"] @ exact["in_weight"].T + exact["in_bias"]
    heads = projected.reshape(case.batch, case.queries, 3, case.heads, case.dim).transpose(2, 0, 3, 1, 4)
    weights = _softmax(heads[0] @ heads[1].swapaxes(-1, -2) / math.sqrt(case.dim))
    attended = (weights @ heads[2]).transpose(0, 2, 1, 3).reshape(case.batch, case.queries, width)
    result: NDArray[Any] = attended @ exact["out_weight"].T + exact["out_bias"]
    return result
