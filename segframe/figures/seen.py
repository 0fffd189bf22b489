"""What a net sees in an image that has no truth: the classes, and how sure it is of them.

Shape suffixes: H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segframe.figures import canvas
from segframe.figures.legend import Legend, class_chips
from segframe.figures.masks import colored
from segframe.figures.panels import Prediction

_HEADINGS = ("image", "prediction", "confidence")
_CELL = 3.0  # inches: the longest side of a picture
_GAP, _MARGIN, _BAR = 0.08, 0.15, 0.12
_TITLE = 10.0  # points


def seen_figure(
    predictions: Sequence[Prediction],
    classes: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    ignore_index: int,
) -> Figure:
    """Returns a row per image: itself, the predicted classes, and the probability of the predicted class.

    Args:
        predictions: At least one; of any sizes.
        classes: Class names in the order of their ids.
        palette: One (red, green, blue) of 0..255 per class.
        ignore_index: The label of pixels that don't count, which none is predicted as.

    Raises:
        ValueError: If there is no prediction.
    """
    if not predictions:
        raise ValueError("no predictions to draw; give at least one.")
    sizes = [canvas.fitted(one.ids.shape, _CELL) for one in predictions]
    cell = max(max(width for _, width in sizes), 1.4)
    width = 2 * _MARGIN + 3 * cell + 2 * _GAP + _BAR + 0.5
    present = {int(label) for one in predictions for label in np.unique(one.ids)}
    legend = Legend(class_chips(present, classes, palette, ignore_index), _MARGIN, width - 2 * _MARGIN)
    heading = canvas.line_height(_TITLE + 1) + 0.05
    height = _MARGIN + heading + sum(h + _GAP for h, _ in sizes) + 0.17 + legend.height + _MARGIN
    figure = canvas.new_figure(width, height)
    top = height - _MARGIN
    for column, text in enumerate(_HEADINGS):
        left = _MARGIN + column * (cell + _GAP) + cell / 2
        canvas.write(figure, left, top, text, _TITLE + 1, ha="center", weight="bold")
    top -= heading
    for one, (h, w) in zip(predictions, sizes, strict=True):
        top -= h
        lefts = [_MARGIN + column * (cell + _GAP) + (cell - w) / 2 for column in range(3)]
        shown = _row(one, [canvas.add_axes(figure, left, top, w, h) for left in lefts], palette, ignore_index)
        top -= _GAP
    side = min(sizes[0][0], 1.6)
    scale = canvas.add_axes(figure, _MARGIN + 3 * cell + 2 * _GAP + 0.08, height - _MARGIN - heading - side, _BAR, side)
    bar = figure.colorbar(shown, cax=scale, ticks=[0, 0.5, 1])
    bar.ax.tick_params(labelsize=8.5)
    legend.draw(figure, top - 0.17)
    return figure


def _row(one: Prediction, panels: Sequence[Axes], palette: Sequence[tuple[int, int, int]], ignore_index: int) -> Any:
    """Draws an image's three pictures; returns the last, which the scale explains."""
    image, ids, confidence = panels
    image.imshow(one.image, aspect="auto")
    ids.imshow(colored(one.ids, palette, ignore_index), interpolation="nearest", aspect="auto")
    for axes in panels:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(color=canvas.MUTED, linewidth=0.5)
    return confidence.imshow(one.confidence, cmap="viridis", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
