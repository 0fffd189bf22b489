"""The largest images that train within the same memory per rank, one over the other, to scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from segframe.figures import canvas

_COLOURS = {1: "#8a8a8a", 2: "#3b6fb6", 4: "#c8502d"}
_TEXT, _TITLE = 8.0, 9.0
_WIDTH, _GAP, _MARGIN, _HEAD = 2.45, 0.2, 0.15, 0.62


def largest_image(result: Mapping[str, Any], out: str | Path) -> None:
    """Draws a panel per strategy with the largest image on each number of ranks.

    Args:
        result: What ``scripts/largest_image.py`` writes; its case on one rank stands in every panel.
        out: The PNG file.
    """
    canvas.save(largest_image_figure(result), out)


def largest_image_figure(result: Mapping[str, Any]) -> Figure:
    """Returns the figure of ``largest_image``.

    Args:
        result: As there.
    """
    alone = [case for case in result["cases"] if case["ranks"] == 1]
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for case in (case for case in result["cases"] if case["ranks"] > 1):
        groups.setdefault(case["strategy"].replace("+", " "), list(alone)).append(case)
    lines = max(map(len, groups.values()))
    tallest = max(case["height"] for case in result["cases"])
    height = _HEAD + 0.3 + _WIDTH / 2 + 0.1 + lines * canvas.line_height(_TEXT) + _MARGIN
    figure = canvas.new_figure(2 * _MARGIN + len(groups) * (_WIDTH + _GAP) - _GAP, height)
    title = f"the largest image that trains in {result['limit_bytes'] / 2**20:.0f} MiB per rank, {result['model']}"
    canvas.write(figure, _MARGIN, height - 0.12, title, _TITLE + 1)
    for number, (strategy, cases) in enumerate(groups.items()):
        left = _MARGIN + number * (_WIDTH + _GAP)
        canvas.write(figure, left, height - _HEAD, strategy, _TITLE, weight="bold", family="monospace")
        bottom = height - _HEAD - 0.3 - _WIDTH / 2
        _images(canvas.add_axes(figure, left, bottom, _WIDTH, _WIDTH / 2), cases, tallest)
        for line, case in enumerate(cases):
            text = f"{case['ranks']} rank{'s' if case['ranks'] > 1 else ''}: {case['height']} x {2 * case['height']}"
            top = bottom - 0.1 - line * canvas.line_height(_TEXT)
            canvas.write(figure, left, top, text, _TEXT, color=_colour(case), weight="bold")
    return figure


def _images(axes: Axes, cases: Sequence[Mapping[str, Any]], tallest: int) -> None:
    """Draws images from their upper left corner, the largest first."""
    axes.set_xlim(-0.01 * tallest, 2.01 * tallest)
    axes.set_ylim(1.01 * tallest, -0.01 * tallest)
    axes.axis("off")
    for case in sorted(cases, key=lambda case: -case["height"]):
        size = (2 * case["height"], case["height"])
        axes.add_patch(Rectangle((0, 0), *size, facecolor="white", edgecolor=_colour(case), linewidth=1.8))
        axes.add_patch(Rectangle((0, 0), *size, facecolor=_colour(case), alpha=0.15, linewidth=0))


def _colour(case: Mapping[str, Any]) -> str:
    return _COLOURS.get(case["ranks"], canvas.INK)
