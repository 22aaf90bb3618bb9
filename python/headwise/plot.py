"""Pictures of attention weights: one head large, or all heads as small multiples. Needs matplotlib.

    figure = headwise.plot.heads(weights[0], tokens)
    headwise.plot.save(figure, "heads.svg")

Rows are queries (who attends), columns are keys (who is attended to); dark means much. Figures are plain
:class:`matplotlib.figure.Figure` objects: notebooks show them, ``save`` writes PNG, SVG or PDF.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure, SubFigure
except ImportError as error:
    raise ImportError("headwise.plot needs matplotlib: pip install matplotlib") from error

__all__ = ["head", "heads", "save"]

_COLORS = LinearSegmentedColormap.from_list("attention", ["#ffffff", "#c6dbef", "#6baed6", "#2171b5", "#08306b"])
_INK, _PAPER, _GRID = "#333333", "#ffffff", "#e4e4e4"


def head(
    weights: ArrayLike,
    tokens: Sequence[str] | None = None,
    key_tokens: Sequence[str] | None = None,
    *,
    title: str = "",
    numbers: bool = True,
    axes: Axes | None = None,
) -> Figure:
    """One attention map, large: weights is (queries, keys), tokens label both unless key_tokens label the keys.

    With numbers, cells of at least 10 % say so. Draws into axes where given, else into a figure of its own.
    """
    matrix = _matrices(weights, 2)
    queries, keys = _labels(tokens, key_tokens, matrix.shape)
    if axes is None:
        cell = 0.42
        size = (max(4.0, cell * matrix.shape[1] + 2.2), max(3.0, cell * matrix.shape[0] + 1.8))
        axes = Figure(figsize=size, layout="constrained").add_subplot()
    image = _map(axes, matrix)
    _label(axes, queries, keys, size=10)
    axes.set_xlabel("attended to", color=_INK)
    axes.set_ylabel("attends", color=_INK)
    if title:
        axes.set_title(title, color=_INK, pad=12)
    if numbers:
        for row, column in zip(*np.nonzero(matrix >= 0.1)):
            weight = matrix[row, column]
            axes.text(
                column,
                row,
                f"{100 * weight:.0f}",
                ha="center",
                va="center",
                fontsize=8,
                color=_PAPER if weight > 0.5 else _INK,
            )
    _bar(axes.figure, image, [axes])
    return axes.figure.figure  # also where the axes lie in a part of it


def heads(
    weights: ArrayLike,
    tokens: Sequence[str] | None = None,
    key_tokens: Sequence[str] | None = None,
    *,
    title: str = "",
    columns: int | None = None,
) -> Figure:
    """All heads as small multiples on one scale of colours: weights is (heads, queries, keys)."""
    matrices = _matrices(weights, 3)
    queries, keys = _labels(tokens, key_tokens, matrices.shape[1:])
    count = len(matrices)
    columns = columns or max(min(count, 4), math.ceil(math.sqrt(count)))
    rows = math.ceil(count / columns)
    cell = min(0.3, max(0.14, 3.0 / max(matrices.shape[1:])))
    width, height = (max(1.6, cell * extent) for extent in (matrices.shape[2], matrices.shape[1]))
    figure = Figure(figsize=(columns * width + 1.8, rows * (height + 0.3) + 0.9), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for index, axes in enumerate(grid.flat):
        if index >= count:
            axes.remove()
            continue
        image = _map(axes, matrices[index])
        # Labels once per row and column of maps: they are the same everywhere.
        _label(axes, queries if index % columns == 0 else None, keys if index < columns else None, size=7)
        axes.set_xlabel(f"head {index}", color=_INK, fontsize=9)
    if title:
        figure.suptitle(title, color=_INK)
    _bar(figure, image, list(figure.axes))
    return figure


def save(figure: Figure, path: str | PathLike[str]) -> None:
    """Writes the picture in the format of the path's suffix: .png, .svg (whose labels stay text), .pdf …"""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "headwise"}):
        metadata = {"Date": None} if str(path).endswith(".svg") else None
        figure.savefig(path, dpi=160, facecolor=_PAPER, metadata=metadata)


def _matrices(weights: ArrayLike, rank: int) -> NDArray[Any]:
    array = np.asarray(weights, dtype=float)
    if array.ndim != rank or array.size == 0:
        expected = {2: "(queries, keys)", 3: "(heads, queries, keys)"}[rank]
        raise ValueError(f"weights has shape {array.shape}, expected {expected}, not empty")
    return array


def _labels(
    tokens: Sequence[str] | None, key_tokens: Sequence[str] | None, shape: tuple[int, ...]
) -> tuple[list[str], list[str]]:
    queries = [str(position) for position in range(shape[0])] if tokens is None else list(tokens)
    given = tokens if key_tokens is None else key_tokens
    keys = [str(position) for position in range(shape[1])] if given is None else list(given)
    if len(queries) != shape[0]:
        raise ValueError(f"tokens has {len(queries)} labels, expected one per query ({shape[0]})")
    if len(keys) != shape[1]:
        name = "tokens" if key_tokens is None else "key_tokens"
        raise ValueError(f"{name} has {len(keys)} labels, expected one per key ({shape[1]})")
    return queries, keys


def _map(axes: Axes, matrix: NDArray[Any]) -> Any:
    image = axes.imshow(matrix, cmap=_COLORS, vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks(np.arange(-0.5, matrix.shape[1]), minor=True)
    axes.set_yticks(np.arange(-0.5, matrix.shape[0]), minor=True)
    axes.grid(which="minor", color=_GRID, linewidth=0.5)
    axes.tick_params(which="both", length=0, colors=_INK)
    axes.spines[:].set_color(_GRID)
    return image


def _label(axes: Axes, queries: list[str] | None, keys: list[str] | None, size: float) -> None:
    axes.xaxis.tick_top()
    queries, keys = queries or [], keys or []
    upright = all(len(key) <= 2 for key in keys)
    axes.set_xticks(range(len(keys)), keys, rotation=0 if upright else 90, fontsize=size)
    axes.set_yticks(range(len(queries)), queries, fontsize=size)


def _bar(figure: Figure | SubFigure, image: Any, axes: list[Axes]) -> None:
    bar = figure.colorbar(image, ax=axes, shrink=0.7, aspect=30, format=lambda weight, _: f"{100 * weight:.0f} %")
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, colors=_INK, labelsize=8)
