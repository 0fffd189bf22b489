"""How far groups of runs differ from the first, with intervals: the metric, and the IoU of every class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segframe.figures import canvas
from segframe.figures.run_curves import COLORS

_MOST_ROWS = 40
_LONG_NAME = 40
_TEXT = 9.0
_ROW, _MORE, _LENGTH, _BOTTOM = 0.24, 0.11, 5.2, 0.7
_HIGHEST = 22.0  # inches that rows of several groups take
_MARKS = ("o", "s", "D", "^", "v", "P", "X")


class Span(NamedTuple):
    """A difference and its interval; ends that are not finite are not drawn, nor is a difference that is NaN.

    Attributes:
        difference: What was measured.
        low: The lower end.
        high: The upper end.
    """

    difference: float
    low: float
    high: float

    @property
    def leaves_zero_out(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


def score_differences(
    names: Sequence[str], rows: Sequence[tuple[str, Sequence[Span]]], confidence: str, out: str | Path
) -> None:
    """Draws differences to the first group as points with intervals, as a PNG.

    Args:
        names: Of all groups; the first is what the others are compared with.
        rows: What is compared, the metric first, then classes; with a span for every other group.
        confidence: Of the intervals, such as ``95 %``.
        out: The file.
    """
    canvas.save(score_differences_figure(names, rows, confidence), out)


def score_differences_figure(
    names: Sequence[str], rows: Sequence[tuple[str, Sequence[Span]]], confidence: str
) -> Figure:
    """Returns the picture of ``score_differences`` as a figure."""
    others = list(names[1:])
    row = _ROW + _MORE * (len(others) - 1)
    shown = _shown(rows, min(_MOST_ROWS, int(_HIGHEST / row)))
    labels = [canvas.short(name) for name, _ in shown]
    left = canvas.text_width(labels, _TEXT, "bold") + 0.25
    width = left + _LENGTH + 0.3
    titles = _titles(names, width - 0.5)
    head = 0.3 + 0.22 * len(titles)
    height = row * len(shown)
    figure = canvas.new_figure(width, _BOTTOM + height + head)
    axes = canvas.add_axes(figure, left, _BOTTOM, _LENGTH, height)
    _dress(axes, labels)
    if len(others) > 1:
        between = [place + 0.5 for place in range(1, len(labels) - 1)]
        axes.hlines(between, 0, 1, colors=canvas.RULE, linewidths=0.6, transform=axes.get_yaxis_transform(), zorder=0)
    for number in range(len(others)):
        offset = (number - (len(others) - 1) / 2) * _MORE / row
        _draw(axes, [spans[number] for _, spans in shown], number, offset)
    left_out = len(rows) - len(shown)
    note = f"\nthe {len(shown) - 1} of {len(rows) - 1} classes that differ most" if left_out else ""
    axes.set_xlabel(f"difference with {confidence} interval; faint: it holds 0{note}", fontsize=_TEXT)
    _write_titles(figure, titles, _BOTTOM + height + head - 0.08)
    return figure


def _shown(rows: Sequence[tuple[str, Sequence[Span]]], most: int) -> list[tuple[str, Sequence[Span]]]:
    """Returns the metric and as many classes as fit, those that differ most, in their order."""
    if len(rows) <= most + 1:
        return list(rows)

    def size(row: tuple[str, Sequence[Span]]) -> float:
        return max((abs(s.difference) for s in row[1] if math.isfinite(s.low + s.difference)), default=-1.0)

    kept = {row[0] for row in sorted(rows[1:], key=size, reverse=True)[:most]}
    return [rows[0], *(row for row in rows[1:] if row[0] in kept)]


def _titles(names: Sequence[str], width: float) -> list[str]:
    """Returns what is compared, both names as long as there is room; their letters stand at the front."""
    for length in range(_LONG_NAME, 4, -1):
        first, *others = (name if len(name) <= length else f"{name[: length - 1]}…" for name in names)
        titles = [f"{other} minus {first}" for other in others]
        if canvas.text_width(titles, _TEXT) <= width:
            break
    return titles


def _dress(axes: Axes, labels: Sequence[str]) -> None:
    canvas.plain(axes)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_yticks(range(len(labels)), labels, fontsize=_TEXT, parse_math=False)
    axes.get_yticklabels()[0].set_fontweight("bold")
    axes.axhline(0.5, color=canvas.MUTED, linewidth=0.7)
    axes.axvline(0, color=canvas.INK, linewidth=0.9)
    axes.grid(axis="x", color=canvas.RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", labelsize=_TEXT)
    axes.tick_params(axis="y", length=0)
    axes.ticklabel_format(axis="x", useOffset=False)


def _draw(axes: Axes, spans: Sequence[Span], number: int, offset: float) -> None:
    color, mark = COLORS[(number + 1) % len(COLORS)], _MARKS[number % len(_MARKS)]
    for place, span in enumerate(spans):
        y = place + offset
        if math.isnan(span.difference):
            axes.text(0, y, " absent", va="center", fontsize=_TEXT - 1, color=canvas.MUTED, style="italic")
            continue
        alpha = 1.0 if span.leaves_zero_out else 0.45
        if math.isfinite(span.low) and math.isfinite(span.high):
            axes.plot([span.low, span.high], [y, y], color=color, alpha=alpha, linewidth=2.0, solid_capstyle="butt")
            axes.plot([span.difference], [y], marker=mark, color=color, markersize=5, alpha=alpha, linestyle="")
        else:
            axes.plot(
                [span.difference], [y], marker=mark, color=color, markersize=5, markerfacecolor="white", linestyle=""
            )


def _write_titles(figure: Figure, titles: Sequence[str], top: float) -> None:
    for number, title in enumerate(titles):
        y = top - 0.22 * number
        color, mark = COLORS[(number + 1) % len(COLORS)], _MARKS[number % len(_MARKS)]
        spot = canvas.add_axes(figure, 0.1, y - 0.15, 0.15, 0.15)
        spot.set_axis_off()
        spot.plot([0], [0], marker=mark, color=color, markersize=5.5)
        canvas.write(figure, 0.32, y, title, _TEXT)
