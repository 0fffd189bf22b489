from itertools import pairwise

import numpy as np
import pytest

from segframe.data.ade20k import ADE20K
from segframe.figures import canvas
from segframe.figures.class_histogram import ClassShare, class_histogram, class_histogram_figure


def shares(count):
    train = np.arange(1, count + 1, dtype=float) ** 3
    return [
        ClassShare(ADE20K.classes[i], ADE20K.palette[i], share, share / 2, 0.5, 1.0)
        for i, share in enumerate((train / train.sum()).tolist())
    ]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_the_most_frequent_class_is_first():
    (axes,) = class_histogram_figure(shares(5)).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(ADE20K.classes[4::-1])
    widths = [bar.get_width() for bar in axes.patches]
    assert widths[::2] == sorted(widths[::2], reverse=True)
    assert widths[1::2] == [width / 2 for width in widths[::2]]
    assert axes.get_xscale() == "log"


def test_a_class_that_never_occurs_says_so():
    rows = [*shares(2), ClassShare("gone", (1, 2, 3), 0.0, 0.0, 0.0, 1.0)]
    (axes,) = class_histogram_figure(rows).axes
    assert texts(axes).count("never") == 2
    assert texts(axes)[-2:] == ["0 %", "-"]


def test_nothing_occurs():
    class_histogram_figure([ClassShare("gone", (1, 2, 3), 0.0, 0.0, 0.0, 1.0)])


@pytest.mark.parametrize("count", [1, 11, 150])
def test_names_and_numbers_stay_apart(count):
    figure = class_histogram_figure(shares(count))
    pixels = canvas.pixels(figure)
    assert max(pixels.shape) < 4000
    renderer = figure.canvas.get_renderer()
    width = pixels.shape[1]
    for axes in figure.axes:
        boxes = [text.get_window_extent(renderer) for text in axes.texts]
        assert all(box.x0 >= axes.get_window_extent().x1 for box in boxes)
        assert all(box.x1 <= width for box in boxes)
        numbers = sorted(boxes, key=lambda box: (round(-box.y0), box.x0))
        assert all(a.x1 < b.x0 for a, b in zip(numbers[::2], numbers[1::2], strict=True))
    others = sorted(figure.axes, key=lambda axes: axes.get_position().x0)
    for left, right in pairwise(others):
        names = [label.get_window_extent(renderer).x0 for label in right.get_yticklabels()]
        assert max(text.get_window_extent(renderer).x1 for text in left.texts) < min(names)


def test_writes_a_png(tmp_path):
    class_histogram(shares(3), tmp_path / "new/histogram.png")
    assert (tmp_path / "new/histogram.png").read_bytes().startswith(b"\x89PNG")
