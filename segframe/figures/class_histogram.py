"""How often every class occurs, in training and in validation, on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from segframe.figures import canvas

_MAX_PER_COLUMN = 50
_SMALLEST = 1e-7  # share below which a bar would not be seen
_VAL = "#b9b9b9"


class ClassShare(NamedTuple):
    """One class.

    Attributes:
        name: What it is called.
        color: Red, green and blue of 0..255.
        train: Share of the labelled training pixels, 0..1.
        val: Share of the labelled validation pixels.
        images: Share of the training images that hold it.
        weight: Its median-frequency weight.
    """

    name: str
    color: tuple[int, int, int]
    train: float
    val: float
    images: float
    weight: float


class _Look(NamedTuple):
    row: float
    font: float
    length: float
    name: float


def class_histogram(shares: Sequence[ClassShare], out: str | Path) -> None:
    """Draws bars of the classes' shares, the most frequent first, as a PNG.

    Args:
        shares: One per class.
        out: The file.
    """
    canvas.save(class_histogram_figure(shares), out)


def class_histogram_figure(shares: Sequence[ClassShare]) -> Figure:
    """Returns the bars of ``class_histogram`` as a figure."""
    ordered = sorted(shares, key=lambda share: (-share.train, -share.val))
    num_columns = max(1, math.ceil(len(ordered) / _MAX_PER_COLUMN))
    per_column = math.ceil(len(ordered) / num_columns)
    row, font, length = (0.32, 9.5, 4.2) if num_columns == 1 else (0.2, 7.5, 2.4)
    look = _Look(row, font, length, canvas.text_width((canvas.short(s.name) for s in ordered), font) + 0.2)
    table = canvas.text_width(("100.0 %", " images ", " weight "), font) * 2 + 0.25
    width, height = look.name + length + table + 0.25, per_column * row
    figure = canvas.new_figure(num_columns * width + 0.1, height + 1.2)
    positive = [share for s in ordered for share in (s.train, s.val) if share > 0]
    floor = 10 ** math.floor(math.log10(max(_SMALLEST, min(positive, default=0.1))) - 0.01)
    for column in range(num_columns):
        part = ordered[column * per_column : (column + 1) * per_column]
        left, bottom = column * width + look.name, 0.55 + height - len(part) * row
        axes = canvas.add_axes(figure, left, bottom, length, len(part) * row)
        _draw(axes, part, look, floor, table)
    marks = [Patch(facecolor="#606060", label="train (in the class's colour)"), Patch(facecolor=_VAL, label="val")]
    figure.legend(handles=marks, loc="upper left", ncols=2, frameon=False, fontsize=look.font)
    return figure


def _draw(axes: Axes, part: Sequence[ClassShare], look: _Look, floor: float, table: float) -> None:
    canvas.plain(axes)
    for place, share in enumerate(part):
        if share.train > 0:
            color = canvas.unit(share.color)
            axes.barh(place - 0.2, share.train, 0.38, color=color, edgecolor="#404040", linewidth=0.5, zorder=2)
        if share.val > 0:
            axes.barh(place + 0.2, share.val, 0.38, color=_VAL, zorder=2)
        for value, at in ((share.train, place - 0.2), (share.val, place + 0.2)):
            if value == 0:
                text: dict[str, Any] = {
                    "va": "center",
                    "fontsize": look.font - 2,
                    "color": canvas.MUTED,
                    "style": "italic",
                }
                axes.text(floor * 1.15, at, "never", **text)
    axes.set_xscale("log")
    axes.set_xlim(floor, 1)
    axes.set_ylim(len(part) - 0.4, -0.6)
    axes.set_yticks(range(len(part)), [canvas.short(s.name) for s in part], fontsize=look.font, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xticks(ticks := [10.0**power for power in range(round(math.log10(floor)), 1)], map(_percent, ticks))
    axes.tick_params(axis="x", labelsize=look.font - 1.5)
    axes.minorticks_off()
    axes.grid(axis="x", color=canvas.RULE, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.set_xlabel("share of labelled pixels", fontsize=look.font)
    _write_table(axes, part, look, table)


def _write_table(axes: Axes, part: Sequence[ClassShare], look: _Look, table: float) -> None:
    """Writes the share of images and the weight beside the bars."""
    places = [1 + table * share / look.length for share in (0.5, 1.0)]
    style: dict[str, Any] = {
        "transform": axes.get_yaxis_transform(),
        "ha": "right",
        "va": "center",
        "fontsize": look.font - 0.5,
    }
    for place, title in zip(places, ("images", "weight"), strict=True):
        axes.text(place, -1.0, title, color=canvas.MUTED, **style)
    for row, share in enumerate(part):
        axes.text(places[0], row, _percent(share.images), color=canvas.INK, **style)
        axes.text(places[1], row, f"{share.weight:.3g}" if share.train else "-", color=canvas.INK, **style)


def _percent(share: float) -> str:
    """Returns a share with as many digits as it needs."""
    if share == 0:
        return "0 %"
    return f"{100 * share:.3g} %" if share >= 1e-4 else f"{100 * share:.0e} %".replace("e-0", "e-")
