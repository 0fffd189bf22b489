"""Images beside their truth, prediction and errors.

Shape suffixes: H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from segframe.figures import canvas
from segframe.figures.panels import Sample

_HEADINGS = ("image", "truth", "prediction", "error")
_CELL = 3.0  # inches: the longest side of a picture
_GAP, _MARGIN = 0.08, 0.15
_TITLE, _CHIP = 10.0, 8.5  # points
_RED = (225, 30, 45)
_IGNORED_DARK, _IGNORED_LIGHT = 128, 168
_MAX_LISTED = 30

RGB = npt.NDArray[np.uint8]


def predictions(
    samples: Sequence[Sample],
    classes: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    out: str | Path,
    ignore_index: int,
) -> None:
    """Draws a row per sample (image, truth, prediction, error) over a legend, as a PNG.

    Wrong pixels are red on the dimmed image; ignored ones are striped in grey. With more than 30
    classes the legend names those that occur.

    Args:
        samples: At least one; of any sizes.
        classes: Class names in the order of their ids.
        palette: One (red, green, blue) of 0..255 per class.
        out: The file.
        ignore_index: The label of pixels that don't count.

    Raises:
        ValueError: If there is no sample.
    """
    canvas.save(predictions_figure(samples, classes, palette, ignore_index), out)


def predictions_figure(
    samples: Sequence[Sample],
    classes: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    ignore_index: int,
) -> Figure:
    """Returns the grid of ``predictions`` as a figure."""
    if not samples:
        raise ValueError("no samples to draw; the validation set must have at least one image.")
    sizes = [_fitted(sample.truth.shape) for sample in samples]
    cell = max(max(width for _, width in sizes), 1.4)
    width = 2 * _MARGIN + 4 * cell + 3 * _GAP
    chips = _chips(samples, classes, palette, ignore_index)
    legend = _Legend(chips, width - 2 * _MARGIN)
    title = canvas.line_height(_TITLE) + 0.12
    heading = canvas.line_height(_TITLE + 1)
    height = _MARGIN + heading + sum(h + title for h, _ in sizes) + 0.25 + legend.height + _MARGIN
    figure = canvas.new_figure(width, height)
    top = height - _MARGIN
    for column, text in enumerate(_HEADINGS):
        _write(figure, _MARGIN + column * (cell + _GAP) + cell / 2, top, text, _TITLE + 1, ha="center", weight="bold")
    top -= heading
    for sample, (h, w) in zip(samples, sizes, strict=True):
        color = "#b0121f" if sample.worst else canvas.INK
        _write(figure, _MARGIN, top - 0.09, _clipped(sample, width - 2 * _MARGIN), _TITLE, color=color)
        top -= title + h
        for column, picture in enumerate(_pictures(sample, palette, ignore_index)):
            left = _MARGIN + column * (cell + _GAP) + (cell - w) / 2
            axes = canvas.add_axes(figure, left, top, w, h)
            axes.imshow(picture, interpolation="nearest" if column else "auto", aspect="auto")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(color=canvas.MUTED, linewidth=0.5)
    legend.draw(figure, top - 0.25)
    return figure


def colored(ids: npt.NDArray[Any], palette: Sequence[tuple[int, int, int]], ignore_index: int) -> RGB:
    """Returns class ids (H, W) in the colours of the palette, uint8 (H, W, 3); ignored pixels are striped."""
    table = np.zeros((max(256, len(palette)), 3), np.uint8)
    table[: len(palette)] = palette
    ignored = ids == ignore_index
    picture = table[np.where(ignored, 0, ids).astype(np.int64)]
    return _striped(picture, ignored)


def errors(sample: Sample, ignore_index: int) -> RGB:
    """Returns the dimmed grey image with wrong pixels in red, uint8 (H, W, 3); ignored pixels are striped."""
    grey = sample.image.mean(-1, keepdims=True) * 0.45 + 20
    picture = np.repeat(grey, 3, axis=-1).astype(np.uint8)
    ignored = sample.truth == ignore_index
    picture[(sample.truth != sample.prediction) & ~ignored] = _RED
    return _striped(picture, ignored)


def _striped(picture: RGB, where: npt.NDArray[np.bool_]) -> RGB:
    height, width = where.shape
    period = max(2, round(max(height, width) / 60))
    diagonal = (np.arange(height)[:, None] + np.arange(width)) // period % 2
    stripes = np.where(diagonal == 0, _IGNORED_DARK, _IGNORED_LIGHT).astype(np.uint8)
    picture[where] = stripes[where][:, None]
    return picture


def _pictures(sample: Sample, palette: Sequence[tuple[int, int, int]], ignore_index: int) -> tuple[RGB, ...]:
    truth, prediction = (colored(ids, palette, ignore_index) for ids in (sample.truth, sample.prediction))
    return sample.image, truth, prediction, errors(sample, ignore_index)


def _fitted(shape: tuple[int, ...]) -> tuple[float, float]:
    """Returns the height and width that a picture gets."""
    height, width = shape
    scale = _CELL / max(height, width)
    return height * scale, width * scale


def _clipped(sample: Sample, width: float) -> str:
    """Returns the caption, with a long path cut at its front."""
    name = sample.name
    while canvas.text_width([sample._replace(name=name).caption], _TITLE) > width and len(name) > 1:
        name = f"…{name.lstrip('…')[2:]}"
    return sample._replace(name=name).caption


def _write(figure: Figure, left: float, top: float, text: str, size: float, **style: Any) -> None:
    width, height = figure.get_size_inches()
    figure.text(left / width, top / height, text, fontsize=size, va="top", parse_math=False, **style)


Chip = tuple[str, tuple[float, float, float] | None]


def _chips(
    samples: Sequence[Sample],
    classes: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    ignore_index: int,
) -> list[Chip]:
    """Returns the names and colours of the legend; None is the striped grey of ignored pixels."""
    present: set[int] = set()
    for sample in samples:
        present |= set(np.unique(sample.truth).tolist()) | set(np.unique(sample.prediction).tolist())
    listed = range(len(classes)) if len(classes) <= _MAX_LISTED else sorted(present - {ignore_index})
    chips: list[Chip] = [(canvas.short(classes[i]), canvas.unit(palette[i])) for i in listed]
    chips.append(("wrong (error)", canvas.unit(_RED)))
    return [*chips, ("ignored", None)] if ignore_index in present else chips


class _Legend:
    """Class names on their colours, in columns of equal width."""

    def __init__(self, chips: Sequence[Chip], width: float) -> None:
        self._chips = chips
        self._row = canvas.line_height(_CHIP) + 0.1
        widest = canvas.text_width([name for name, _ in chips], _CHIP) + 0.2
        self._num_columns = max(1, min(len(chips), int(width / (widest + _GAP))))
        self._step = min(width / self._num_columns, 1.6 * widest)
        self.height = math.ceil(len(chips) / self._num_columns) * self._row

    def draw(self, figure: Figure, top: float) -> None:
        """Draws the rows from ``top`` downwards."""
        width, height = figure.get_size_inches()
        for number, (name, color) in enumerate(self._chips):
            row, column = divmod(number, self._num_columns)
            left, base = _MARGIN + column * self._step, top - (row + 1) * self._row + 0.06
            size = (self._step - _GAP, self._row - 0.06)
            grey = _IGNORED_LIGHT / 255
            box = Rectangle(
                (left / width, base / height),
                size[0] / width,
                size[1] / height,
                transform=figure.transFigure,
                facecolor=color or (grey, grey, grey),
                edgecolor=canvas.MUTED if color else [_IGNORED_DARK / 255] * 3,
                hatch=None if color else "////",
                linewidth=0.5,
            )
            figure.add_artist(box)
            figure.text(
                (left + size[0] / 2) / width,
                (base + size[1] / 2) / height,
                name,
                fontsize=_CHIP,
                ha="center",
                va="center_baseline",
                color=canvas.ink_on(color) if color else "black",
                parse_math=False,
            )
