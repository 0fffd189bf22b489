"""Samples as a net is shown them: each image beside its label map.

Shape suffixes: H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from segframe.figures import canvas
from segframe.figures.legend import Legend, class_chips
from segframe.figures.masks import RGB, overlaid

_CELL, _LARGEST = 2.5, 5.0  # inches: the longer side of a picture, where there are many and where there are few
_NARROWEST, _WIDTH = 9.0, 16.0  # inches that the sheet is wide, for its title and about at most
_GAP, _BETWEEN, _MARGIN = 0.05, 0.3, 0.2
_TITLE, _NAME, _SIZE = 10.0, 8.0, 7.5  # points


class Shown(NamedTuple):
    """A sample on the sheet.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        mask: Class ids and the ignored label (H, W).
        name: What stands below it.
        note: What stands below the name.
    """

    image: RGB
    mask: npt.NDArray[Any]
    name: str
    note: str


def contact_sheet(
    samples: Sequence[Shown],
    classes: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    out: str | Path,
    ignore_index: int,
    title: str,
) -> None:
    """Draws samples in rows, each as it is and under the colours of its classes, over a legend, as a PNG.

    Args:
        samples: At least one; of any sizes.
        classes: Class names in the order of their ids.
        palette: One (red, green, blue) of 0..255 per class.
        out: The file.
        ignore_index: The label of pixels that don't count.
        title: Stands above all.

    Raises:
        ValueError: If there is no sample.
    """
    canvas.save(contact_figure(samples, classes, palette, ignore_index, title), out)


def contact_figure(
    samples: Sequence[Shown],
    classes: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    ignore_index: int,
    title: str,
) -> Figure:
    """Returns the sheet of ``contact_sheet`` as a figure."""
    if not samples:
        raise ValueError("no samples to draw; the data set must have at least one.")
    sizes, tile = _sizes(samples)
    columns = _columns(len(samples), tile)
    width = max(_NARROWEST, 2 * _MARGIN + columns * (tile + _BETWEEN) - _BETWEEN)
    present = {int(label) for sample in samples for label in np.unique(sample.mask)}
    legend = Legend(class_chips(present, classes, palette, ignore_index), _MARGIN, width - 2 * _MARGIN)
    caption = canvas.line_height(_NAME) + canvas.line_height(_SIZE) + 0.2
    rows = [range(start, min(start + columns, len(samples))) for start in range(0, len(samples), columns)]
    heights = [max(sizes[number][0] for number in row) for row in rows]
    heading = canvas.line_height(_TITLE) + 0.15
    height = 2 * _MARGIN + heading + sum(heights) + len(rows) * caption + legend.height
    figure = canvas.new_figure(width, height)
    top = height - _MARGIN
    title = canvas.clipped(title, width - 2 * _MARGIN, _TITLE, "bold")
    canvas.write(figure, _MARGIN, top, title, _TITLE, weight="bold")
    top -= heading
    for row, tallest in zip(rows, heights, strict=True):
        top -= tallest
        for column, number in enumerate(row):
            left, sample = _MARGIN + column * (tile + _BETWEEN), samples[number]
            pictures = sample.image, overlaid(sample.image, sample.mask, palette, ignore_index)
            _draw(figure, left, top, sizes[number], pictures)
            _describe(figure, left, top, tile, sample)
        top -= caption
    legend.draw(figure, top)
    return figure


def _sizes(samples: Sequence[Shown]) -> tuple[list[tuple[float, float]], float]:
    """Returns the heights and widths of the pictures, which are larger if all fit into a row, and a sample's width."""
    widest = max(canvas.fitted(sample.mask.shape, 1.0)[1] for sample in samples)
    cell = min(_LARGEST, max(_CELL, (_WIDTH / len(samples) - _BETWEEN - _GAP) / (2 * widest)))
    return [canvas.fitted(sample.mask.shape, cell) for sample in samples], max(1.6, 2 * widest * cell + _GAP)


def _columns(count: int, tile: float) -> int:
    """Returns how many samples stand in a row, so that the last row is nearly as full as the others."""
    most = max(1, int((_WIDTH + _BETWEEN) / (tile + _BETWEEN)))
    return -(-count // -(-count // most))


def _draw(figure: Figure, left: float, bottom: float, size: tuple[float, float], pictures: Sequence[RGB]) -> None:
    height, width = size
    for column, picture in enumerate(pictures):
        axes = canvas.add_axes(figure, left + column * (width + _GAP), bottom, width, height)
        axes.imshow(picture, interpolation="auto", aspect="auto")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(color=canvas.MUTED, linewidth=0.5)


def _describe(figure: Figure, left: float, top: float, width: float, sample: Shown) -> None:
    canvas.write(figure, left, top - 0.04, canvas.clipped(sample.name, width, _NAME), _NAME)
    note = canvas.clipped(sample.note, width, _SIZE)
    canvas.write(figure, left, top - 0.04 - canvas.line_height(_NAME), note, _SIZE, color=canvas.MUTED)
