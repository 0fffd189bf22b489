"""The confusion matrix as a heat map.

Shape suffix: K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segframe.figures import canvas

if TYPE_CHECKING:
    from torch import Tensor

_MAX_NUMBERED = 25
_ABSENT = "#e4e4e4"


def confusion(matrix: npt.ArrayLike | Tensor, classes: Sequence[str], out: str | Path) -> None:
    """Draws which class is taken for which, as a PNG.

    Args:
        matrix: Pixel counts (K, K); rows are the truth, columns the prediction.
        classes: Class names in the order of their ids.
        out: The file.

    Raises:
        ValueError: If the matrix is not K x K.
    """
    canvas.save(confusion_figure(matrix, classes), out)


def confusion_figure(matrix: npt.ArrayLike | Tensor, classes: Sequence[str]) -> Figure:
    """Returns the heat map of ``confusion`` as a figure."""
    on_cpu: Any = matrix.cpu() if hasattr(matrix, "cpu") else matrix
    counts_KK = np.asarray(on_cpu, dtype=np.float64)
    count = len(classes)
    if counts_KK.shape != (count, count):
        raise ValueError(
            f"the confusion matrix has the shape {counts_KK.shape}; {count} classes need {(count, count)}."
        )
    total = counts_KK.sum(1, keepdims=True)
    share = np.divide(counts_KK, total, out=np.full_like(counts_KK, np.nan), where=total > 0)
    cell, size = (0.40, 9.0) if count <= _MAX_NUMBERED else (0.125, 6.5)
    columns = [canvas.short(name) for name in classes]
    rows = [f"{name} (absent)" if gone else name for name, gone in zip(columns, total[:, 0] == 0, strict=True)]
    side = max(count * cell, 2.2)
    left, bottom = (0.42 + canvas.text_width(names, size) for names in (rows, columns))
    figure = canvas.new_figure(left + side + 1.0, bottom + side + 0.45)
    axes = canvas.add_axes(figure, left, bottom, side, side)
    image = _draw_cells(axes, share)
    _name_axes(axes, rows, columns, share, size)
    if count <= _MAX_NUMBERED:
        _write_numbers(axes, share, min(8.0, size))
    title = "Where the pixels of each true class went"
    axes.set_title(title, fontsize=11, loc="left", pad=10, color=canvas.INK)
    bar_height = min(side, 5.0)
    bar = canvas.add_axes(figure, left + side + 0.2, bottom + side - bar_height, 0.16, bar_height)
    scale = figure.colorbar(image, cax=bar, ticks=[0, 25, 50, 75, 100])
    scale.set_label("% of the true class's pixels", fontsize=9)
    scale.ax.tick_params(labelsize=8)
    return figure


def _draw_cells(axes: Axes, share: npt.NDArray[np.float64]) -> Any:
    colors = matplotlib.colormaps["Blues"].with_extremes(bad=_ABSENT)
    image = axes.imshow(100 * share, cmap=colors, vmin=0, vmax=100, interpolation="nearest", aspect="auto")
    count = len(share)
    edges = np.arange(-0.5, count)
    thickness = 0.8 if count <= _MAX_NUMBERED else 0.25
    axes.hlines(edges, -0.5, count - 0.5, color=canvas.RULE, linewidth=thickness)
    axes.vlines(edges, -0.5, count - 0.5, color=canvas.RULE, linewidth=thickness)
    axes.set_xlim(-0.5, count - 0.5)
    axes.set_ylim(count - 0.5, -0.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image


def _name_axes(axes: Axes, rows: list[str], columns: list[str], share: npt.NDArray[np.float64], size: float) -> None:
    absent = np.isnan(share[:, 0])
    places = range(len(rows))
    axes.set_xticks(places, columns, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(places, rows, fontsize=size, parse_math=False)
    axes.tick_params(length=0, pad=3)
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        for text, gone in zip(labels, absent, strict=True):
            text.set_color(canvas.MUTED if gone else canvas.INK)
    axes.set_xlabel("prediction", fontsize=11)
    axes.set_ylabel("truth (each row sums to 100 %)", fontsize=11)


def _write_numbers(axes: Axes, share: npt.NDArray[np.float64], size: float) -> None:
    colors = matplotlib.colormaps["Blues"]
    for (row, column), value in np.ndenumerate(share):
        # Shares that round to 0 stay empty: a page of zeros hides the rest.
        if value >= 0.005:
            ink = canvas.ink_on(colors(value))
            axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=size, color=ink)
