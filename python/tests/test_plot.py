"""Pictures are rendered and looked at: not blank, dark where the weight is, labelled; SVG keeps its labels as text."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib.figure
import matplotlib.image
import numpy as np
import pytest

import headwise.plot

LAYER = Path(__file__).resolve().parents[2] / "tests" / "data" / "trained-layer"


@pytest.fixture(scope="module")
def trained():
    about = json.loads((LAYER / "about.json").read_text())
    return np.load(LAYER / "expected_weights.npy")[0], about["tokens"][0], about["sentences"][0]


def rendered(figure, tmp_path):
    path = tmp_path / "picture.png"
    headwise.plot.save(figure, path)
    return matplotlib.image.imread(path)[..., :3]


def labels_of(path):
    namespace = "{http://www.w3.org/2000/svg}"
    return [text.text for text in ElementTree.parse(path).getroot().iter(f"{namespace}text")]


def test_one_head_is_dark_where_its_weights_are(trained, tmp_path):
    matrices, tokens, title = trained
    figure = headwise.plot.head(matrices[1], tokens, title=title)
    pixels = rendered(figure, tmp_path)
    assert min(pixels.shape[:2]) > 600
    axes = figure.axes[0]
    height = pixels.shape[0]

    def brightness(row, column):
        # Beside the number that stands in the middle of the cell.
        x, y = axes.transData.transform((column - 0.35, row - 0.35)) * 160 / figure.dpi
        return pixels[height - 1 - round(y), round(x)].mean()

    it, animal, cls = tokens.index("it"), tokens.index("animal"), tokens.index("[CLS]")
    assert brightness(it, animal) < 0.55 < 0.9 < brightness(animal, it)
    assert brightness(cls, cls) < 0.3
    shades = np.array([[brightness(row, column) for column in range(16)] for row in range(16)])
    darker = np.argsort(shades, axis=None)[:20]
    assert set(darker) == set(np.argsort(-matrices[1], axis=None)[:20])


def test_axes_may_lie_in_a_part_of_a_figure(trained):
    matrices, tokens, _ = trained
    whole = matplotlib.figure.Figure()
    part = whole.subfigures(1, 2)[1]
    axes = part.subplots()
    assert headwise.plot.head(matrices[1], tokens, axes=axes) is whole
    assert part.axes[0] is axes and len(part.axes) == 2  # the other one is the bar of colours


def test_one_head_has_its_labels_and_numbers(trained, tmp_path):
    matrices, tokens, title = trained
    path = tmp_path / "head.svg"
    headwise.plot.save(headwise.plot.head(matrices[1], tokens, title=title), path)
    texts = labels_of(path)
    for token in set(tokens):
        assert texts.count(token) == 2 * tokens.count(token)
    assert title in texts and "attends" in texts and "attended to" in texts
    assert "68" in texts
    headwise.plot.save(headwise.plot.head(matrices[1], tokens, numbers=False), path)
    assert "68" not in labels_of(path)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_all_heads_are_drawn_once(trained, tmp_path, suffix):
    matrices, tokens, title = trained
    figure = headwise.plot.heads(matrices, tokens, title=title)
    path = tmp_path / f"heads.{suffix}"
    headwise.plot.save(figure, path)
    if suffix == "svg":
        texts = labels_of(path)
        assert [text for text in texts if text.startswith("head ")] == [f"head {head}" for head in range(12)]
        assert texts.count("animal") == 3 + 4  # once per row and per column of maps
        return
    pixels = matplotlib.image.imread(path)[..., :3]
    for axes in figure.axes[:12]:
        left, bottom, right, top = (axes.get_window_extent().extents * 160 / figure.dpi).round().astype(int)
        map_pixels = pixels[pixels.shape[0] - top : pixels.shape[0] - bottom, left:right]
        assert map_pixels.mean(axis=2).min() < 0.7 < 0.95 < map_pixels.mean(axis=2).max()


def test_queries_and_keys_may_differ(tmp_path):
    figure = headwise.plot.head([[0.25, 0.75, 0]], ["wer"], ["who", "is", "it"])
    path = tmp_path / "cross.svg"
    headwise.plot.save(figure, path)
    assert {"wer", "who", "is", "it", "75"} <= set(labels_of(path))
    figure = headwise.plot.heads(np.full((5, 2, 3), 1 / 3), columns=5)
    assert len(figure.axes) == 6


def test_maps_may_go_into_axes_of_ones_own():
    figure = matplotlib.figure.Figure()
    left, right = figure.subplots(1, 2)
    assert headwise.plot.head([[1, 0], [0, 1]], axes=left) is figure
    assert left.images and not right.images


def test_pictures_are_the_same_every_time(trained, tmp_path):
    matrices, tokens, _ = trained
    paths = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for path in paths:
        headwise.plot.save(headwise.plot.head(matrices[1], tokens), path)
    assert paths[0].read_text() == paths[1].read_text()


def test_shapes_and_labels_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"weights has shape \(3,\), expected \(queries, keys\)"):
        headwise.plot.head([1, 0, 0])
    with pytest.raises(
        ValueError, match=r"weights has shape \(0, 2, 2\), expected \(heads, queries, keys\), not empty"
    ):
        headwise.plot.heads(np.zeros((0, 2, 2)))
    with pytest.raises(ValueError, match=r"tokens has 1 labels, expected one per query \(2\)"):
        headwise.plot.head([[1, 0], [0, 1]], ["a"])
    with pytest.raises(ValueError, match=r"key_tokens has 1 labels, expected one per key \(2\)"):
        headwise.plot.head([[1, 0]], ["a"], ["b"])
