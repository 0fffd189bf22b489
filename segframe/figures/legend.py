"""Which colour is which class."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from segframe.figures import canvas
from segframe.figures.masks import IGNORED_DARK, IGNORED_LIGHT

_SIZE = 8.5  # points
_GAP = 0.08  # inches
_MAX_LISTED = 30

Chip = tuple[str, tuple[float, float, float] | None]
"""A name and its colour of 0..1; None is the striped grey of ignored pixels."""


def class_chips(
    present: Collection[int],
    classes: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    ignore_index: int,
    more: Sequence[Chip] = (),
) -> list[Chip]:
    """Returns the chips of all classes, or with more than 30 of those that occur; and of ignored pixels.

    Args:
        present: The labels that occur.
        classes: Class names in the order of their ids.
        palette: One (red, green, blue) of 0..255 per class.
        ignore_index: The label of pixels that don't count.
        more: What stands between the classes and ignored pixels.
    """
    listed = range(len(classes)) if len(classes) <= _MAX_LISTED else sorted(set(present) - {ignore_index})
    chips: list[Chip] = [(canvas.short(classes[i]), canvas.unit(palette[i])) for i in listed]
    return [*chips, *more, *([("ignored", None)] if ignore_index in present else [])]


class Legend:
    """Class names on their colours, in columns of equal width.

    Args:
        chips: Names and colours.
        left: Inches from the left edge of the figure.
        width: Inches.

    Attributes:
        height: Inches.
    """

    def __init__(self, chips: Sequence[Chip], left: float, width: float) -> None:
        self._chips, self._left = chips, left
        self._row = canvas.line_height(_SIZE) + 0.1
        widest = canvas.text_width([name for name, _ in chips], _SIZE) + 0.2
        self._num_columns = max(1, min(len(chips), int(width / (widest + _GAP))))
        self._step = min(width / self._num_columns, 1.6 * widest)
        self.height = math.ceil(len(chips) / self._num_columns) * self._row

    def draw(self, figure: Figure, top: float) -> None:
        """Draws the rows from ``top`` downwards."""
        width, height = figure.get_size_inches()
        for number, (name, color) in enumerate(self._chips):
            row, column = divmod(number, self._num_columns)
            left, base = self._left + column * self._step, top - (row + 1) * self._row + 0.06
            size = (self._step - _GAP, self._row - 0.06)
            grey = IGNORED_LIGHT / 255
            box = Rectangle(
                (left / width, base / height),
                size[0] / width,
                size[1] / height,
                transform=figure.transFigure,
                facecolor=color or (grey, grey, grey),
                edgecolor=canvas.MUTED if color else [IGNORED_DARK / 255] * 3,
                hatch=None if color else "////",
                linewidth=0.5,
            )
            figure.add_artist(box)
            figure.text(
                (left + size[0] / 2) / width,
                (base + size[1] / 2) / height,
                name,
                fontsize=_SIZE,
                ha="center",
                va="center_baseline",
                color=canvas.ink_on(color) if color else "black",
                parse_math=False,
            )
