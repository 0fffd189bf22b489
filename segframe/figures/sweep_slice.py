"""The value of trials over one parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from segframe.figures import canvas
from segframe.figures.sweep_history import BEST, LEGEND_ROW, TRIAL, draw_lost, legend, legend_rows, set_value_limits
from segframe.figures.sweep_scale import PRUNED, Point, Scale, scales, valued

_TEXT = 9.5
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _RIGHT = 6.0, 3.0, 0.85, 0.6, 0.25
_BAR = 0.95  # room for the colours of trials
_MAX_GROUPS = 12
_COLUMNS = 3  # of the legend
_HALF, _MOST_HALF, _NUMBER_HALF = 0.28, 0.12, 0.035  # half the width of a group, and its share of the axis
_LEAST_NAME, _MOST_NAME = 0.35, 1.15  # inches
_LARGE_ROTATION = 30


def sweep_slice(points: Sequence[Point], name: str, metric: str, logs: Mapping[str, bool], out: str | Path) -> None:
    """Draws values over a parameter, as a PNG; where few values repeat, also their mean and standard deviation.

    Args:
        points: The trials.
        name: A parameter that varies.
        metric: What the values are.
        logs: Whether a parameter's numbers stand by their logarithm, where that is known.
        out: The file.
    """
    canvas.save(sweep_slice_figure(points, name, metric, logs), out)


def sweep_slice_figure(points: Sequence[Point], name: str, metric: str, logs: Mapping[str, bool]) -> Figure:
    """Returns the picture of ``sweep_slice`` as a figure.

    Raises:
        ValueError: If the parameter does not vary.
    """
    found = [scale for scale in scales(points, logs) if scale.name == name]
    if not found:
        raise ValueError(f"{name} has the same value in all trials, so there is nothing to draw over it.")
    scale, finished, pruned = found[0], valued(points), valued(points, PRUNED)
    names, wide = _names(scale), _LEFT + _RIGHT
    width = max(_WIDTH, wide + _LEAST_NAME * len(names)) if scale.is_categorical else _WIDTH
    is_turned = scale.is_categorical and canvas.text_width(names, _TEXT - 1) > 0.9 * (width - wide) / len(names)
    bottom = _BOTTOM + (0.6 * canvas.text_width(names, _TEXT - 1) if is_turned else 0.0)
    figure = canvas.new_figure(width, bottom + _HEIGHT + 0.2 + LEGEND_ROW * legend_rows(points, 1, _COLUMNS))
    groups = _groups(scale, finished)
    room = _BAR if finished and not groups else _RIGHT
    axes = canvas.add_axes(figure, _LEFT, bottom, width - _LEFT - room, _HEIGHT)
    _dress(axes, scale, metric, is_turned)
    if finished or pruned:
        values = [point.value or 0.0 for point in [*finished, *pruned]]
        # Deviations may not change a scale of positive values.
        ends = [end for group in groups.values() for end in _deviations(group) if end > 0 or min(values) <= 0]
        set_value_limits(axes, metric, [*values, *ends])
        _draw_pruned(axes, scale, pruned)
        _draw_groups(axes, scale, finished, groups) if groups else _draw_by_number(figure, axes, scale, finished)
    else:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no trial has a value yet", transform=axes.transAxes, ha="center", color=canvas.MUTED)
    draw_lost(axes, points, [_place(scale, point) for point in points])
    legend(axes, _COLUMNS)
    return figure


def _names(scale: Scale) -> list[str]:
    return [canvas.clipped(text, _MOST_NAME, _TEXT - 1) for _, text in scale.ticks()]


def _dress(axes: Axes, scale: Scale, metric: str, is_turned: bool) -> None:
    canvas.plain(axes)
    ticks = scale.ticks()
    style: dict[str, Any] = {"rotation": _LARGE_ROTATION, "ha": "right", "rotation_mode": "anchor"} if is_turned else {}
    texts = _names(scale)
    axes.set_xticks([place for place, _ in ticks], texts, fontsize=_TEXT - 1, parse_math=False, **style)
    axes.set_xlim(*scale.limits)
    axes.tick_params(axis="y", labelsize=_TEXT - 0.5)
    axes.grid(axis="y", color=canvas.RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(canvas.clipped(scale.name, _WIDTH - _LEFT - _RIGHT, _TEXT), fontsize=_TEXT, parse_math=False)
    axes.set_ylabel(canvas.short(metric), fontsize=_TEXT, parse_math=False)


def _place(scale: Scale, point: Point) -> float:
    return scale.place(point.params[scale.name]) if scale.name in point.params else math.nan


def _groups(scale: Scale, finished: Sequence[Point]) -> dict[float, list[Point]]:
    """Returns the trials by the place of their value, where few values repeat or are names; else none."""
    groups: dict[float, list[Point]] = {}
    for point in finished:
        if math.isfinite(place := _place(scale, point)):
            groups.setdefault(place, []).append(point)
    is_repeated = len(groups) <= _MAX_GROUPS and max(map(len, groups.values()), default=0) > 1
    return groups if scale.is_categorical or is_repeated else {}


def _draw_pruned(axes: Axes, scale: Scale, pruned: Sequence[Point]) -> None:
    if pruned:
        axes.scatter(
            [_place(scale, point) for point in pruned],
            [point.value or 0.0 for point in pruned],
            s=26,
            marker="D",
            facecolors="none",
            edgecolors=canvas.MUTED,
            linewidths=1.0,
            label=f"pruned ({len(pruned)})",
            zorder=3,
        )


def _draw_by_number(figure: Figure, axes: Axes, scale: Scale, finished: Sequence[Point]) -> None:
    """Draws trials over numbers that hardly repeat, later ones darker."""
    if not finished:
        return
    numbers, colors = [point.number for point in finished], colormaps["viridis"].reversed()
    dots = axes.scatter(
        [_place(scale, point) for point in finished],
        [point.value or 0.0 for point in finished],
        s=28,
        c=numbers,
        cmap=colors,
        norm=Normalize(min(numbers), max(max(numbers), min(numbers) + 1)),
        edgecolors="#505050",
        linewidths=0.4,
        zorder=4,
    )
    axes.scatter([], [], s=28, color=colors(0.5), label=f"finished ({len(finished)})")
    _color_bar(figure, axes, dots, numbers)


def _deviations(points: Sequence[Point]) -> list[float]:
    """Returns the ends of a group's bar; none where there is no deviation."""
    values = [point.value or 0.0 for point in points]
    if len(values) < 2:
        return []
    return [fmean(values) - stdev(values), fmean(values) + stdev(values)]


def _draw_groups(axes: Axes, scale: Scale, finished: Sequence[Point], groups: Mapping[float, Sequence[Point]]) -> None:
    """Draws trials side by side over values that repeat, and the mean and standard deviation of each."""
    low, high = scale.limits
    half = min(_HALF, _MOST_HALF * (high - low)) if scale.is_categorical else _NUMBER_HALF * (high - low)
    shift = np.random.default_rng(0).uniform(-0.6 * half, 0.6 * half, len(finished))
    axes.scatter(
        [_place(scale, point) + float(s) for point, s in zip(finished, shift, strict=True)],
        [point.value or 0.0 for point in finished],
        s=22,
        color=TRIAL,
        alpha=0.75,
        label=f"finished ({len(finished)})",
        zorder=4,
        linewidths=0,
    )
    label: str | None = "mean, standard deviation"
    for place, points in sorted(groups.items()):
        if len(points) < 2 or len(groups) > _MAX_GROUPS:
            continue
        values = [point.value or 0.0 for point in points]
        axes.plot([place - half, place + half], [fmean(values)] * 2, color=BEST, linewidth=2.0, zorder=5, label=label)
        axes.errorbar(place, fmean(values), yerr=stdev(values), color=BEST, linewidth=1.1, capsize=4, zorder=5)
        label = None


def _color_bar(figure: Figure, axes: Axes, dots: object, numbers: Sequence[int]) -> None:
    width, height = figure.get_size_inches()
    box = axes.get_position()
    beside = canvas.add_axes(figure, box.x1 * width + 0.15, box.y0 * height, 0.1, box.height * height)
    bar = figure.colorbar(dots, cax=beside)  # type: ignore[arg-type]
    bar.outline.set_visible(False)
    bar.set_ticks(sorted({min(numbers), (min(numbers) + max(numbers)) // 2, max(numbers)}))
    beside.set_title("trial", fontsize=_TEXT - 1, pad=5)
    beside.tick_params(labelsize=_TEXT - 1.5, length=2)
