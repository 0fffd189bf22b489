"""Trials as lines over one axis per parameter and one of their value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from segframe.figures import canvas
from segframe.figures.sweep_scale import MISSING, PRUNED, Point, Scale, broken, scales, value_scale, valued
from segframe.wording import shown_score

_TEXT = 8.5
_STEP, _HEIGHT, _RIGHT = 1.45, 3.2, 0.65
_NAME_LETTERS = 15
_TICK_WIDTH = 1.1
_SPREAD = 0.3  # of the distance of two names
_MOST_SPREAD = 0.04  # of the height


def sweep_parallel(
    points: Sequence[Point], metric: str, is_maximized: bool, logs: Mapping[str, bool], out: str | Path
) -> None:
    """Draws parallel coordinates of finished trials, the darker the better, as a PNG; pruned ones are grey.

    Args:
        points: The trials.
        metric: What the values are.
        is_maximized: Whether the largest value is the best.
        logs: Whether a parameter's numbers stand by their logarithm, where that is known.
        out: The file.
    """
    canvas.save(sweep_parallel_figure(points, metric, is_maximized, logs), out)


def sweep_parallel_figure(points: Sequence[Point], metric: str, is_maximized: bool, logs: Mapping[str, bool]) -> Figure:
    """Returns the picture of ``sweep_parallel`` as a figure."""
    drawn = [*valued(points, PRUNED), *sorted(valued(points), key=lambda p: p.value or 0, reverse=not is_maximized)]
    axes_of = scales(points, logs)
    titles = [broken(name, _NAME_LETTERS) for name in [*(scale.name for scale in axes_of), canvas.short(metric)]]
    halves = [canvas.text_width(titles[end].split("\n"), _TEXT, "bold") / 2 + 0.1 for end in (0, -1)]
    texts = [canvas.clipped(text, _TICK_WIDTH, _TEXT - 1) for scale in axes_of[:1] for _, text in scale.ticks()]
    left, right = max(halves[0], canvas.text_width(texts, _TEXT - 1) + 0.2), max(_RIGHT, halves[1])
    foot = _foot(points, is_maximized)
    wide = canvas.text_width(foot, _TEXT - 0.5) + 0.3
    width = max(left + len(axes_of) * _STEP + right, wide, 4.0)
    below = 0.25 + len(foot) * canvas.line_height(_TEXT)
    top = 0.25 + max(title.count("\n") + 1 for title in titles) * canvas.line_height(_TEXT)
    figure = canvas.new_figure(width, below + _HEIGHT + top)
    canvas.write(figure, 0.15, below - 0.12, "\n".join(foot), _TEXT - 0.5, color=canvas.MUTED)
    axes = canvas.add_axes(figure, left, below, width - left - right, _HEIGHT)
    _frame(axes, titles)
    if not drawn:
        axes.text(0.5, 0.5, "no trial has a value yet", transform=axes.transAxes, ha="center", color=canvas.MUTED)
        return figure
    values = value_scale(metric, [point.value or 0.0 for point in drawn])
    for place, scale in enumerate([*axes_of, values]):
        _ticks(axes, place, scale, "left" if scale is values else "right")
    _lines(axes, drawn, axes_of, values, is_maximized)
    return figure


def _frame(axes: Axes, titles: Sequence[str]) -> None:
    """Draws the vertical lines with their names above."""
    axes.set_xlim(0, max(len(titles) - 1, 0.5))
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_xticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    for place, title in enumerate(titles):
        axes.plot([place, place], [0, 1], color=canvas.MUTED, linewidth=1.0, zorder=1, clip_on=False)
        weight = "bold" if place == len(titles) - 1 else "normal"
        axes.annotate(
            title,
            (place, 1),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=_TEXT,
            weight=weight,
            annotation_clip=False,
            parse_math=False,
        )


def _ticks(axes: Axes, place: int, scale: Scale, side: str) -> None:
    low, high = scale.limits
    for at, text in scale.ticks():
        _tick(axes, place, (at - low) / (high - low), canvas.clipped(text, _TICK_WIDTH, _TEXT - 1), side)


def _tick(axes: Axes, place: int, height: float, text: str, side: str) -> None:
    """Writes a value beside an axis: on a white ground, as lines pass there."""
    shift = -4 if side == "right" else 4
    axes.annotate(
        text,
        (place, height),
        xytext=(shift, 0),
        textcoords="offset points",
        ha=side,
        va="center",
        fontsize=_TEXT - 1,
        annotation_clip=False,
        parse_math=False,
        zorder=6,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5},
    )
    axes.plot([place - 0.015, place + 0.015], [height] * 2, color=canvas.MUTED, linewidth=1.0, clip_on=False, zorder=5)


def _lines(axes: Axes, drawn: Sequence[Point], axes_of: Sequence[Scale], values: Scale, is_maximized: bool) -> None:
    """Draws the trials, the best last and thickest."""
    color_of = _colors()
    finished = [values.place(point.value) for point in drawn if point.state != PRUNED]
    norm = Normalize(min(finished, default=0), max(finished, default=1))
    columns = [_heights(drawn, scale) for scale in axes_of]
    for index, point in enumerate(drawn):
        heights = [*(column[index] for column in columns), values.height(point.value)]
        is_best = index == len(drawn) - 1 and point.state != PRUNED
        share = float(norm(values.place(point.value))) if norm.vmax != norm.vmin else float(is_maximized)
        style: dict[str, Any] = {"color": color_of(share if is_maximized else 1 - share), "alpha": 0.85}
        if point.state == PRUNED:
            style = {"color": "#b5b5b5", "alpha": 0.6, "linestyle": (0, (4, 2))}
        axes.plot(range(len(heights)), heights, linewidth=2.6 if is_best else 1.1, zorder=2, clip_on=False, **style)


def _heights(drawn: Sequence[Point], scale: Scale) -> list[float]:
    """Returns where the trials' lines cross an axis; those of one name lie beside each other, by their order."""
    heights = [scale.height(point.params.get(scale.name, MISSING)) for point in drawn]
    if not scale.is_categorical:
        return heights
    low, high = scale.limits
    spread = 2 * min(_SPREAD / (high - low), _MOST_SPREAD)
    return [height + spread * (index / max(1, len(drawn) - 1) - 0.5) for index, height in enumerate(heights)]


def _colors() -> ListedColormap:
    """Returns colours from light to dark that the colour-blind tell apart and that show on white."""
    return ListedColormap(colormaps["viridis"].reversed()(range(20, 256)))


def _foot(points: Sequence[Point], is_maximized: bool) -> list[str]:
    """Returns what is said below: what the colours are, and which trial is the best."""
    finished, pruned = valued(points), valued(points, PRUNED)
    lines = []
    if finished:
        best = (max if is_maximized else min)(finished, key=lambda point: point.value or 0.0)
        thick = f"thick: trial {best.number} ({shown_score(best.value)})"
        lines.append(f"{len(finished)} finished, the darker the better; {thick}")
    if pruned:
        lines.append(f"grey, dashed: {len(pruned)} pruned")
    return lines
