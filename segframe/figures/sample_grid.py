"""Images beside their truth, prediction and errors.

Shape suffixes: H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from segframe.figures import canvas
from segframe.figures.legend import Legend, class_chips
from segframe.figures.masks import RGB, colored, striped
from segframe.figures.panels import Sample

_HEADINGS = ("image", "truth", "prediction", "error")
_CELL = 3.0  # inches: the longest side of a picture
_GAP, _MARGIN = 0.08, 0.15
_TITLE = 10.0  # points
_RED = (225, 30, 45)


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
    sizes = [canvas.fitted(sample.truth.shape, _CELL) for sample in samples]
    cell = max(max(width for _, width in sizes), 1.4)
    width = 2 * _MARGIN + 4 * cell + 3 * _GAP
    present = {
        int(label) for sample in samples for ids in (sample.truth, sample.prediction) for label in np.unique(ids)
    }
    chips = class_chips(present, classes, palette, ignore_index, [("wrong (error)", canvas.unit(_RED))])
    legend = Legend(chips, _MARGIN, width - 2 * _MARGIN)
    title = canvas.line_height(_TITLE) + 0.12
    heading = canvas.line_height(_TITLE + 1)
    height = _MARGIN + heading + sum(h + title for h, _ in sizes) + 0.25 + legend.height + _MARGIN
    figure = canvas.new_figure(width, height)
    top = height - _MARGIN
    for column, text in enumerate(_HEADINGS):
        canvas.write(
            figure, _MARGIN + column * (cell + _GAP) + cell / 2, top, text, _TITLE + 1, ha="center", weight="bold"
        )
    top -= heading
    for sample, (h, w) in zip(samples, sizes, strict=True):
        color = "#b0121f" if sample.worst else canvas.INK
        canvas.write(figure, _MARGIN, top - 0.09, _clipped(sample, width - 2 * _MARGIN), _TITLE, color=color)
        top -= title + h
        for column, picture in enumerate(_pictures(sample, palette, ignore_index)):
            left = _MARGIN + column * (cell + _GAP) + (cell - w) / 2
            axes = canvas.add_axes(figure, left, top, w, h)
            axes.imshow(picture, interpolation="nearest" if column else "auto", aspect="auto")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(color=canvas.MUTED, linewidth=0.5)
    legend.draw(figure, top - 0.25)
    return figure


def errors(sample: Sample, ignore_index: int) -> RGB:
    """Returns the dimmed grey image with wrong pixels in red, uint8 (H, W, 3); ignored pixels are striped."""
    grey = sample.image.mean(-1, keepdims=True) * 0.45 + 20
    picture = np.repeat(grey, 3, axis=-1).astype(np.uint8)
    ignored = sample.truth == ignore_index
    picture[(sample.truth != sample.prediction) & ~ignored] = _RED
    return striped(picture, ignored)


def _pictures(sample: Sample, palette: Sequence[tuple[int, int, int]], ignore_index: int) -> tuple[RGB, ...]:
    truth, prediction = (colored(ids, palette, ignore_index) for ids in (sample.truth, sample.prediction))
    return sample.image, truth, prediction, errors(sample, ignore_index)


def _clipped(sample: Sample, width: float) -> str:
    """Returns the caption, with a long path cut at its front."""
    name = sample.name
    while canvas.text_width([sample._replace(name=name).caption], _TITLE) > width and len(name) > 1:
        name = f"…{name.lstrip('…')[2:]}"
    return sample._replace(name=name).caption
