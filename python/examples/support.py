"""What the example scripts share: their data, their arguments, and printing and saving results."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

import headwise.plot

DATA = Path(__file__).resolve().parents[2] / "tests" / "data"


def worked_example(name: str) -> dict[str, Any]:
    """The matrices of an exercise by name."""
    examples = json.loads((DATA / "worked-examples.json").read_text())
    return {key: np.array(matrix) for key, matrix in examples[name].items()}


def parse_arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="where pictures go (default: here)")
    parser.add_argument("--format", choices=("svg", "png"), default="svg", help="format of the pictures")
    return parser.parse_args()


def show(title: str, matrix: ArrayLike) -> None:
    print(f"{title}:\n{np.array2string(np.asarray(matrix), precision=4, suppress_small=True)}\n")


def save(figure: Figure, arguments: argparse.Namespace, name: str) -> None:
    path = arguments.folder / f"{name}.{arguments.format}"
    headwise.plot.save(figure, path)
    print(f"drawn: {path}\n")
