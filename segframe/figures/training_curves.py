"""Loss, scores and learning rate over a run."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from segframe.figures import canvas

Series = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]

_TRAIN, _VAL, _SECOND, _RATE = "#3b6fb6", "#c8502d", "#2f8f6b", "#6b5b95"
_MAX_POINTS = 2000
_MAX_EPOCH_TICKS = 12
_LOG_RATIO = 30


def curves(metrics_csv: str | Path, out: str | Path) -> None:
    """Draws the loss, the validation scores and the learning rate of a run over its steps, as a PNG.

    Args:
        metrics_csv: The metrics.csv of a run folder.
        out: The file.
    """
    canvas.save(curves_figure(metrics_csv), out)


def curves_figure(metrics_csv: str | Path) -> Figure:
    """Returns the picture of ``curves`` as a figure."""
    with open(metrics_csv, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    panels = [panel for panel in (_loss, _scores, _rate) if any(_series(rows, key)[0].size for key in _KEYS[panel])]
    heights = [1.5 if panel is _rate else 2.6 for panel in panels] or [1.5]
    gap, left, bottom, top = 0.22, 0.75, 0.55, 0.6
    total = sum(heights) + gap * (len(heights) - 1)
    figure = canvas.new_figure(8.0, bottom + total + top)
    limits = _limits(rows)
    below = bottom + total
    for number, (panel, height) in enumerate(zip(panels, heights, strict=False)):
        below -= height
        axes = canvas.add_axes(figure, left, below, 8.0 - left - 0.3, height)
        below -= gap
        _dress(axes, limits, is_last=number == len(panels) - 1)
        panel(axes, rows)
        if number == 0:
            _epoch_axis(axes, rows)
    if not panels:
        figure.text(0.5, 0.5, "nothing was logged yet", ha="center", fontsize=11, color=canvas.MUTED)
    return figure


def _loss(axes: Axes, rows: Sequence[dict[str, str]]) -> None:
    steps, values = _series(rows, "train/loss")
    val = _series(rows, "val/loss")
    if steps.size:
        smooth = _smooth(values)
        is_smoothed = smooth is not values
        _line(axes, _thin((steps, values)), _TRAIN, None if is_smoothed else "training", faint=is_smoothed)
        if is_smoothed:
            _line(axes, _thin((steps, smooth)), _TRAIN, "training (running mean)")
    _line(axes, val, _VAL, "validation")
    drawn, trend = (np.concatenate([line, val[1]]) for line in (values, _smooth(values)))
    # A first loss that is many times the last one would flatten all that follows.
    if drawn.size and drawn.min() > 0 and drawn.max() / trend.min() > _LOG_RATIO:
        axes.set_yscale("log")
    axes.set_ylabel("loss", fontsize=10)
    axes.legend(fontsize=9, frameon=False, loc="upper right")


def _scores(axes: Axes, rows: Sequence[dict[str, str]]) -> None:
    for key, name, color in (("val/miou", "mIoU", _VAL), ("val/pixel_accuracy", "pixel accuracy", _SECOND)):
        series = _series(rows, key)
        if series[0].size:
            _line(axes, series, color, f"{name}: best {series[1].max():.3f}, last {series[1][-1]:.3f}")
    axes.set_ylim(0, 1)
    axes.set_ylabel("validation", fontsize=10)
    axes.legend(fontsize=9, frameon=False, loc="best")


def _rate(axes: Axes, rows: Sequence[dict[str, str]]) -> None:
    _line(axes, _thin(_series(rows, "lr")), _RATE, None)
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
    axes.yaxis.get_offset_text().set_fontsize(9)
    axes.set_ylabel("learning rate", fontsize=10)


_KEYS = {_loss: ("train/loss", "val/loss"), _scores: ("val/miou", "val/pixel_accuracy"), _rate: ("lr",)}


def _series(rows: Sequence[dict[str, str]], key: str) -> Series:
    """Returns the steps at which a key was logged with a finite value, and the values."""
    pairs = [(float(row["step"]), float(row[key])) for row in rows if row.get(key)]
    steps, values = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    finite = np.isfinite(values)
    return steps[finite], values[finite]


def _smooth(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns the mean over a window of a fiftieth of the run; short runs stay as they are."""
    half = len(values) // 100
    if half == 0:
        return values
    sums = np.concatenate([[0.0], np.cumsum(values)])
    place = np.arange(len(values))
    low, high = np.maximum(place - half, 0), np.minimum(place + half + 1, len(values))
    return np.asarray((sums[high] - sums[low]) / (high - low))


def _thin(series: Series) -> Series:
    every = -(-len(series[0]) // _MAX_POINTS) or 1
    return series[0][::every], series[1][::every]


def _line(axes: Axes, series: Series, color: str, label: str | None, faint: bool = False) -> None:
    steps, values = series
    if steps.size:
        marker = "o" if steps.size <= 40 and not faint else ""
        width, alpha = (0.8, 0.35) if faint else (1.6, 1.0)
        axes.plot(steps, values, color=color, label=label, linewidth=width, alpha=alpha, marker=marker, markersize=3.5)


def _limits(rows: Sequence[dict[str, str]]) -> tuple[float, float]:
    steps = [float(row["step"]) for row in rows] or [0.0, 1.0]
    margin = 0.02 * (max(steps) - min(steps)) or 1.0
    return min(steps) - margin, max(steps) + margin


def _dress(axes: Axes, limits: tuple[float, float], is_last: bool) -> None:
    canvas.plain(axes)
    axes.set_xlim(limits)
    axes.grid(color=canvas.RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, labelbottom=is_last)
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True, steps=[1, 2, 5, 10]))
    if is_last:
        axes.set_xlabel("step", fontsize=10)


def _epoch_axis(axes: Axes, rows: Sequence[dict[str, str]]) -> None:
    """Numbers the epochs, where they end, above the picture."""
    ends = {int(row["epoch"]) + 1: float(row["step"]) for row in rows if row.get("epoch")}
    if not ends:
        return
    left, right = axes.get_xlim()
    shown: list[int] = []
    for epoch in sorted(ends, reverse=True):
        if not shown or ends[shown[-1]] - ends[epoch] >= (right - left) / _MAX_EPOCH_TICKS:
            shown.append(epoch)
    top = axes.secondary_xaxis("top")
    top.set_xticks([ends[epoch] for epoch in shown], [str(epoch) for epoch in shown], fontsize=9)
    top.set_xlabel("end of epoch", fontsize=10, labelpad=6)
    top.spines["top"].set_visible(False)
    top.tick_params(color=canvas.MUTED)
