"""The validation curves of several runs in one picture; runs that differ in their seed share a line and a band."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from segframe.figures import canvas

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#1a1a1a")
"""Told apart by all kinds of colour blindness (Okabe and Ito); the yellow is darker, for white paper."""

_STYLES = ("-", (0, (5, 2)))
_WIDTH, _LEFT, _RIGHT, _BOTTOM, _GAP = 8.0, 0.8, 0.3, 0.55, 0.22
_SCORE, _LOSS, _ROW = 3.0, 1.8, 0.24
_MOST_MARKED = 30
_LONG_NAME = 60

Series = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def run_curves(names: Sequence[str], folders: Sequence[Sequence[Path]], key: str, metric: str, out: str | Path) -> None:
    """Draws a validation score and the validation loss of groups of runs over their steps, as a PNG.

    Args:
        names: One per group.
        folders: The run folders of each group.
        key: The score, a column of metrics.csv.
        metric: What it is called.
        out: The file.
    """
    canvas.save(run_curves_figure(names, folders, key, metric), out)


def run_curves_figure(names: Sequence[str], folders: Sequence[Sequence[Path]], key: str, metric: str) -> Figure:
    """Returns the picture of ``run_curves`` as a figure."""
    rows = [[_rows(folder) for folder in group] for group in folders]
    scores = [[_series(run, key) for run in group] for group in rows]
    losses = [[_series(run, "val/loss") for run in group] for group in rows]
    has_loss = any(len(series[0]) for group in losses for series in group)
    head = _ROW * len(names) + 0.15
    loss = _LOSS + _GAP if has_loss else 0.0
    figure = canvas.new_figure(_WIDTH, _BOTTOM + loss + _SCORE + head)
    width = _WIDTH - _LEFT - _RIGHT
    upper = canvas.add_axes(figure, _LEFT, _BOTTOM + loss, width, _SCORE)
    _draw(upper, names, scores, is_lowest=not has_loss)
    upper.set_ylabel(f"validation {metric}", fontsize=10)
    if has_loss:
        lower = canvas.add_axes(figure, _LEFT, _BOTTOM, width, _LOSS)
        _draw(lower, names, losses, is_lowest=True)
        lower.set_ylabel("validation loss", fontsize=10)
        lower.set_xlim(upper.get_xlim())
    handles, labels = upper.get_legend_handles_labels()
    if handles:
        place = (_LEFT / _WIDTH, (_BOTTOM + loss + _SCORE + 0.05) / (_BOTTOM + loss + _SCORE + head))
        legend = figure.legend(
            handles, labels, loc="lower left", bbox_to_anchor=place, fontsize=9, frameon=False, borderaxespad=0
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def _draw(axes: Axes, names: Sequence[str], groups: Sequence[Sequence[Series]], is_lowest: bool) -> None:
    canvas.plain(axes)
    axes.grid(color=canvas.RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, labelbottom=is_lowest)
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True, steps=[1, 2, 5, 10]))
    if is_lowest:
        axes.set_xlabel("step", fontsize=10)
    drawn = [
        _draw_group(axes, number, name, group) for number, (name, group) in enumerate(zip(names, groups, strict=True))
    ]
    if not any(drawn):
        axes.text(
            0.5, 0.5, "nothing was logged", transform=axes.transAxes, ha="center", fontsize=11, color=canvas.MUTED
        )


def _draw_group(axes: Axes, number: int, name: str, group: Sequence[Series]) -> bool:
    """Draws the mean over runs at the steps that all of them have, between the least and the most."""
    known = [dict(zip(*series, strict=True)) for series in group if len(series[0])]
    if not known:
        return False
    steps = sorted(set.intersection(*(set(run) for run in known)))
    color, style = COLORS[number % len(COLORS)], _STYLES[number // len(COLORS) % len(_STYLES)]
    values = np.array([[run[step] for step in steps] for run in known]).reshape(len(known), len(steps))
    several = f" (mean of {len(known)} seeds, band from least to most)" if len(known) > 1 else ""
    label = name if len(name) <= _LONG_NAME else f"{name[: _LONG_NAME - 1]}…"
    marker = "o" if len(steps) <= _MOST_MARKED else ""
    axes.plot(
        steps,
        values.mean(0),
        color=color,
        linestyle=style,
        linewidth=1.7,
        marker=marker,
        markersize=3.5,
        label=label + several,
    )
    if len(known) > 1:
        axes.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.16, linewidth=0)
    return True


def _rows(folder: Path) -> list[dict[str, str]]:
    try:
        with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        return []


def _series(rows: Sequence[dict[str, str]], key: str) -> Series:
    """Returns the steps at which a key was logged with a finite value, and the values."""
    finite = list[tuple[float, float]]()
    for row in rows:
        with suppress(ValueError):  # a line that a kill has cut
            if row.get(key) and math.isfinite(value := float(row[key])):
                finite.append((float(row["step"]), value))
    steps, values = np.array(finite, dtype=np.float64).reshape(-1, 2).T
    return steps, values
