"""How far strategies are from one process, quantity by quantity, against what is tolerated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segframe.figures import canvas

_COLOURS = ("#33557f", "#c8502d", "#2f8f6b", "#6b5b95", "#b58900", "#1a1a1a", "#8a8a8a")
_MARKERS = "osD^vPX"
_TEXT, _WIDTH = 9.0, 4.6
_EQUAL, _FARTHEST = 1e-18, 1e-6  # what stands for 0 on the logarithmic axis, and its other end
_BOTTOM, _TOP, _RIGHT = 0.6, 0.2, 0.25
_POINT, _LEAST_ROW = 0.06, 0.3


def certificates_figure(result: Mapping[str, Any]) -> Figure:
    """Returns a row per quantity with a point per certificate: the relative difference from one process in fp64.

    A line marks what is tolerated. Of the confusion matrix it is the number of pixels that differ.

    Args:
        result: What ``scripts/verify_all.py`` writes (``benchmarks/certificate_cpu.json``).

    Raises:
        ValueError: If nothing was compared.
    """
    compared = [
        (row["strategy"].replace("strategy.", ""), judged)
        for row in result["rows"]
        if "report" in row  # what was refused compares nothing
        for judged in row["report"]["rows"]
        if judged["precision"] == "fp64" and judged["difference"] is not None
    ]
    if not compared:
        raise ValueError("no certificate compares anything in fp64; scripts/verify_all.py makes some.")
    strategies = list(dict.fromkeys(strategy for strategy, _ in compared))
    names = list(dict.fromkeys(judged["name"] for _, judged in compared))
    left = canvas.text_width(names, _TEXT) + 0.3
    columns = max(1, int(_WIDTH / (canvas.text_width([*strategies, "tolerance"], _TEXT) + 0.35)))
    legend = canvas.line_height(_TEXT) * 1.15 * math.ceil((len(strategies) + 1) / columns)
    row = max(_LEAST_ROW, 1.6 * _POINT * len(strategies))
    height = row * len(names)
    figure = canvas.new_figure(left + _WIDTH + _RIGHT, _BOTTOM + height + legend + _TOP)
    axes = canvas.add_axes(figure, left, _BOTTOM, _WIDTH, height)
    _dress(axes, names, max(judged["difference"] for _, judged in compared))
    for number, strategy in enumerate(strategies):
        lift = (number - (len(strategies) - 1) / 2) * 0.75 / len(strategies)
        found = [(names.index(judged["name"]) + lift, judged["difference"]) for s, judged in compared if s == strategy]
        _points(axes, found, number, strategy)
    for place, name in enumerate(names):
        limit = max(min(judged["tolerance"] for _, judged in compared if judged["name"] == name), _EQUAL)
        label = "tolerance" if place == 0 else None
        axes.plot([limit] * 2, [place - 0.42, place + 0.42], color=canvas.INK, linewidth=1.4, zorder=2, label=label)
    axes.legend(fontsize=_TEXT, frameon=False, ncols=columns, loc="lower left", bbox_to_anchor=(0, 1), handlelength=1.2)
    return figure


def _points(axes: Axes, found: Sequence[tuple[float, float]], number: int, label: str) -> None:
    axes.plot(
        [max(difference, _EQUAL) for _, difference in found],
        [place for place, _ in found],
        _MARKERS[number % len(_MARKERS)],
        color=_COLOURS[number % len(_COLOURS)],
        markersize=72 * _POINT,
        alpha=0.8,
        label=label,
        zorder=3,
    )


def _dress(axes: Axes, names: Sequence[str], farthest: float) -> None:
    canvas.plain(axes)
    last = 3 * math.ceil(math.log10(max(_FARTHEST, farthest)) / 3)
    axes.set_xscale("log")
    axes.set_xlim(_EQUAL / 3, 10.0**last)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names, fontsize=_TEXT)
    powers = range(-15, last + 1, 3)
    axes.set_xticks([_EQUAL, *(10.0**power for power in powers)], ["equal", *(f"$10^{{{power}}}$" for power in powers)])
    axes.minorticks_off()
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=_TEXT)
    axes.grid(axis="x", color=canvas.RULE, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.set_xlabel("relative difference from one process, fp64", fontsize=_TEXT)
