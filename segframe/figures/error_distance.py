"""How wrong a net is near boundaries and far from them.

Shape suffixes: K classes, D ranges of distance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from segframe.figures import canvas

_WRONG, _ALL = "#c8502d", "#8a8a8a"
_TEXT = 9.0
_PANEL, _LEFT, _BETWEEN, _BOTTOM, _TOP = (3.4, 2.3), 0.75, 0.75, 0.6, 0.5


def error_distance_figure(matrices: npt.ArrayLike | Tensor, ranges: Sequence[str]) -> Figure:
    """Returns two panels over the distance to the true boundary: the error rate, and where the wrong pixels are.

    Args:
        matrices: Pixel counts (D, K, K) of ``segframe.metrics.boundary.confusion_by_distance``, summed over images.
        ranges: The D names of the ranges, in pixels.

    Raises:
        ValueError: If the names are not as many as the ranges.
    """
    counts = np.asarray(matrices.cpu() if isinstance(matrices, Tensor) else matrices, dtype=np.float64)
    if len(counts) != len(ranges):
        raise ValueError(f"{len(counts)} ranges of distance and {len(ranges)} names; give one for each.")
    pixels = counts.sum((1, 2))
    wrong = pixels - counts.diagonal(axis1=1, axis2=2).sum(1)
    width = _LEFT + 2 * _PANEL[0] + _BETWEEN + 0.2
    figure = canvas.new_figure(width, _BOTTOM + _PANEL[1] + _TOP)
    left, right = (canvas.add_axes(figure, _LEFT + n * (_PANEL[0] + _BETWEEN), _BOTTOM, *_PANEL) for n in range(2))
    for axes in (left, right):
        _dress(axes, ranges)
    rate = 100 * np.divide(wrong, pixels, out=np.zeros_like(wrong), where=pixels > 0)
    _bars(left, rate, 0.0, 0.72, _WRONG, pixels == 0)
    left.set_ylabel("wrong pixels, % of the range", fontsize=_TEXT)
    left.set_title("How wrong", fontsize=_TEXT + 1.5, loc="left", pad=8)
    for offset, values, colour, name in ((-0.2, wrong, _WRONG, "wrong pixels"), (0.2, pixels, _ALL, "all pixels")):
        _bars(right, 100 * values / max(values.sum(), 1), offset, 0.38, colour, label=name)
    right.set_ylabel("share, %", fontsize=_TEXT)
    right.set_title("Where they are", fontsize=_TEXT + 1.5, loc="left", pad=8)
    right.legend(
        fontsize=_TEXT,
        frameon=False,
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=2,
        columnspacing=1.0,
        handlelength=1,
    )
    return figure


def _bars(
    axes: Axes,
    percents: npt.NDArray[np.float64],
    offset: float,
    width: float,
    colour: str,
    is_empty: npt.NDArray[np.bool_] | None = None,
    label: str | None = None,
) -> None:
    axes.bar(np.arange(len(percents)) + offset, percents, width, color=colour, label=label, zorder=2)
    for place, value in enumerate(percents):
        text = "0" if value == 0 else f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.05 else "< 0.1"
        axes.annotate(
            "none" if is_empty is not None and is_empty[place] else text,
            (place + offset, value),
            (0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=_TEXT - 1.5,
        )
    heights = [bar.get_height() for bar in axes.patches]  # type: ignore[attr-defined]
    axes.set_ylim(0, 1.12 * max(*heights, 1.0))


def _dress(axes: Axes, ranges: Sequence[str]) -> None:
    canvas.plain(axes)
    axes.set_xticks(range(len(ranges)), ranges, fontsize=_TEXT - 0.5)
    axes.tick_params(axis="x", length=0)
    axes.tick_params(axis="y", labelsize=_TEXT - 0.5)
    axes.set_xlabel("distance to the nearest boundary of the truth, pixels", fontsize=_TEXT)
    axes.grid(axis="y", color=canvas.RULE, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
