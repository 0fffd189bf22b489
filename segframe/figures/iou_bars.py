"""The IoU of every class as bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segframe.figures import canvas

_MAX_PER_COLUMN = 50


def iou(
    per_class_iou: Sequence[float],
    classes: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    mean: float,
    out: str | Path,
) -> None:
    """Draws the IoU per class in the colours of the palette, as a PNG.

    Args:
        per_class_iou: One value of 0..1 per class; NaN where the class is absent.
        classes: Class names in the order of their ids.
        palette: One (red, green, blue) of 0..255 per class.
        mean: The mean IoU, drawn as a line.
        out: The file.

    Raises:
        ValueError: If the values, names and colours differ in number.
    """
    canvas.save(iou_figure(per_class_iou, classes, palette, mean), out)


def iou_figure(
    per_class_iou: Sequence[float],
    classes: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    mean: float,
) -> Figure:
    """Returns the bars of ``iou`` as a figure."""
    count = len(classes)
    if not len(per_class_iou) == len(palette) == count:
        raise ValueError(
            f"{len(per_class_iou)} IoUs, {count} class names and {len(palette)} colours; each class needs one of each."
        )
    num_columns = max(1, math.ceil(count / _MAX_PER_COLUMN))
    per_column = math.ceil(count / num_columns)
    bar, size, length = (0.27, 9.5, 4.6) if num_columns == 1 else (0.17, 7.5, 2.8)
    names = [canvas.short(name) for name in classes]
    label = canvas.text_width(names, size) + 0.2
    height = per_column * bar
    figure = canvas.new_figure(num_columns * (label + length + 0.5), height + 0.9)
    for column in range(num_columns):
        ids = range(column * per_column, min(count, (column + 1) * per_column))
        left = label + column * (label + length + 0.5)
        axes = canvas.add_axes(figure, left, 0.55 + height - len(ids) * bar, length, len(ids) * bar)
        _draw_bars(axes, [per_class_iou[i] for i in ids], [palette[i] for i in ids], size)
        axes.set_yticks(range(len(ids)), [names[i] for i in ids], fontsize=size, parse_math=False)
        _draw_mean(axes, mean)
    return figure


def _draw_bars(axes: Axes, values: Sequence[float], colors: Sequence[tuple[int, int, int]], size: float) -> None:
    canvas.plain(axes)
    axes.barh(
        range(len(values)),
        [0 if math.isnan(value) else value for value in values],
        color=[canvas.unit(color) for color in colors],
        edgecolor="#404040",
        linewidth=0.5,
        height=0.74,
        zorder=2,
    )
    for place, value in enumerate(values):
        gone = math.isnan(value)
        axes.text(
            0.012 if gone else value + 0.012,
            place,
            "absent" if gone else f"{value:.3f}",
            va="center",
            fontsize=size - 0.5,
            color=canvas.MUTED if gone else canvas.INK,
            style="italic" if gone else "normal",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
            zorder=4,
        )
    axes.set_xlim(0, 1.12)
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    axes.spines["bottom"].set_bounds(0, 1)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=size)
    axes.grid(axis="x", color=canvas.RULE, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.set_xlabel("IoU", fontsize=size + 0.5)


def _draw_mean(axes: Axes, mean: float) -> None:
    if math.isnan(mean):
        return
    axes.axvline(mean, color=canvas.INK, linewidth=1.2, linestyle=(0, (4, 3)), zorder=3)
    axes.annotate(
        f"mean {mean:.3f}",
        (mean, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        fontsize=9.5,
        color=canvas.INK,
    )
