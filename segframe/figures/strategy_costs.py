"""What each strategy costs and brings: memory, traffic and speed of every case, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segframe.figures import canvas

_MIB = 2**20
_PARTS = {
    "parameters": ("parameters", "#33557f"),
    "gradients": ("gradients", "#7f9fc6"),
    "optimizer_state": ("optimizer state", "#c9d7e8"),
    "activations": ("activations", "#e0a458"),
    "gathered": ("gathered for the moment", "#f3e0c2"),
}
_SENT, _COMPUTED = "#5b8c6e", "#8a8a8a"
_TEXT = 8.0
_BAR, _GAP, _TITLE, _FOOT, _HEAD = 0.26, 0.35, 0.3, 0.5, 0.45
_LEAST_LEFT, _RIGHT, _BETWEEN = 0.95, 0.25, 0.3
_WIDTHS = (3.3, 1.6, 1.6)
_WIDTHS_UNTIMED = (4.1, 2.7)


def strategy_costs(result: Mapping[str, Any], out: str | Path) -> None:
    """Draws memory per rank, bytes sent against the minimum, and speed-up where time was measured, as a PNG.

    Args:
        result: What ``strategies.json`` of ``segframe benchmark strategies`` holds; cases that failed are left out.
        out: The file.
    """
    canvas.save(strategy_costs_figure(result), out)


def strategy_costs_figure(result: Mapping[str, Any]) -> Figure:
    """Returns the figure of ``strategy_costs``, one row of panels per model.

    Args:
        result: As there.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in result["cases"]:
        if "error" not in row:
            groups.setdefault(row["model"], []).append(row)
    heights = {model: len(rows) * _BAR for model, rows in groups.items()}
    height = _HEAD + sum(_TITLE + h + _FOOT for h in heights.values())
    names = [_name(row) for rows in groups.values() for row in rows]
    left = max(_LEAST_LEFT, canvas.text_width(names, _TEXT) + 0.2)
    is_timed = any(row["speed_up"] is not None for rows in groups.values() for row in rows)
    widths = _WIDTHS if is_timed else _WIDTHS_UNTIMED
    figure = canvas.new_figure(left + sum(widths) + _BETWEEN * (len(widths) - 1) + _RIGHT, height)
    top = height - _HEAD
    for model, rows in groups.items():
        top -= _TITLE
        canvas.write(figure, 0.1, top + _TITLE - 0.05, model, _TEXT + 1, weight="bold")
        _panels(figure, rows, (left, top - heights[model]), heights[model], widths)
        top -= heights[model] + _FOOT
    _legend(figure, height, is_timed)
    return figure


def _panels(
    figure: Figure,
    rows: Sequence[Mapping[str, Any]],
    corner: tuple[float, float],
    height: float,
    widths: Sequence[float],
) -> None:
    left, bottom = corner
    for width, draw in zip(widths, (_memory, _traffic, _speed), strict=False):
        axes = canvas.add_axes(figure, left, bottom, width, height)
        canvas.plain(axes)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_yticks(range(len(rows)), [_name(row) if draw is _memory else "" for row in rows])
        axes.tick_params(axis="y", length=0)
        axes.tick_params(labelsize=_TEXT)
        draw(axes, rows)
        left += width + _BETWEEN


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['strategy']} x {row['ranks']}"


def _memory(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    for index, row in enumerate(rows):
        left = 0.0
        for key, (_, color) in _PARTS.items():
            value = row["memory"][key] / _MIB
            axes.barh(index, value, 0.72, left=left, color=color)
            left += value
    axes.set_xlabel("MiB on the rank that holds most", fontsize=_TEXT)


def _traffic(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    several = [(i, row["traffic"]) for i, row in enumerate(rows) if row["ranks"] > 1]
    for index, traffic in several:
        if traffic["sent"] is not None:
            axes.barh(index, traffic["sent"] / _MIB, 0.72, color=_SENT)
        if traffic["minimum"] is not None:
            axes.plot([traffic["minimum"] / _MIB] * 2, [index - 0.42, index + 0.42], color=canvas.INK, linewidth=1.4)
    axes.set_xlim(left=0)
    axes.set_xlabel("MiB sent per rank, step", fontsize=_TEXT)


def _speed(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    for index, row in enumerate(rows):
        if row["speed_up"] is None:
            continue
        if row["shares_cores"]:
            axes.text(0.02, index, "ranks share cores", fontsize=_TEXT - 1, va="center", color=canvas.MUTED)
            continue
        axes.barh(index, row["speed_up"], 0.72, color=_COMPUTED)
        axes.plot([row["ranks"]] * 2, [index - 0.42, index + 0.42], color=canvas.INK, linewidth=1.4)
    axes.set_xlim(left=0)
    axes.set_xlabel("speed-up over one rank", fontsize=_TEXT)


def _legend(figure: Figure, height: float, is_timed: bool) -> None:
    """Names the colours above all panels, and the black line."""
    left, top = 0.1, height - 0.12
    width, total = figure.get_size_inches()
    timed, line = ([("speed-up", _COMPUTED)], "minimum, ideal") if is_timed else ([], "minimum")
    side = 0.11
    for text, color in [*_PARTS.values(), ("sent", _SENT), *timed, (line, canvas.INK)]:
        wide = side if color != canvas.INK else 0.025
        box = canvas.add_axes(figure, left, top - side, wide, side)
        box.set_facecolor(color)
        box.set_xticks([])
        box.set_yticks([])
        for spine in box.spines.values():
            spine.set_visible(False)
        canvas.write(figure, left + wide + 0.05, top + 0.015, text, _TEXT - 0.5)
        left += wide + 0.05 + canvas.text_width([text], _TEXT - 0.5) + 0.15
    assert left <= width + 0.15
    assert top <= total
