"""The loss of one run under several strategies, and how far they are apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from segframe.figures import canvas

_COLOURS = ("#1a1a1a", "#3b6fb6", "#c8502d", "#2f8f6b", "#6b5b95", "#b58900")
_SMALLEST = 1e-17  # stands for 0 on the logarithmic axis
_TOLERANCE = 1e-9


def same_numbers(losses: Mapping[str, Sequence[float]], out: str | Path) -> None:
    """Draws the loss of each step under each strategy, one over the other, and the differences below.

    Args:
        losses: The losses of every step by strategy; the others are compared with the first.
        out: The PNG file.
    """
    canvas.save(same_numbers_figure(losses), out)


def same_numbers_figure(losses: Mapping[str, Sequence[float]]) -> Figure:
    """Returns the picture of ``same_numbers`` as a figure."""
    figure = canvas.new_figure(7.0, 5.5)
    upper = canvas.add_axes(figure, 0.85, 2.35, 5.9, 2.55)
    lower = canvas.add_axes(figure, 0.85, 0.55, 5.9, 1.5)
    names = list(losses)
    steps = np.arange(1, len(losses[names[0]]) + 1)
    for number, name in enumerate(names):
        # Every curve lies on the first: a thick line below, broken thin ones above, each broken elsewhere.
        dashes = (-3 * number, (3, 3 * max(1, len(names) - 2)))
        style: dict[str, Any] = {"lw": 5, "alpha": 0.3} if number == 0 else {"lw": 1.8, "ls": dashes}
        upper.plot(steps, losses[name], color=_COLOURS[number % len(_COLOURS)], label=name, **style)
    upper.set_ylabel("training loss")
    legend = upper.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    for handle in legend.legend_handles:
        assert handle is not None
        handle.set_linestyle("-")  # type: ignore[attr-defined]
    for number, name in enumerate(names[1:], start=1):
        apart = np.abs(np.subtract(losses[name], losses[names[0]])).clip(min=_SMALLEST)
        marker = "os^Dvx"[number % 6]
        lower.plot(steps, apart, marker, ms=4, color=_COLOURS[number % len(_COLOURS)], label=name)
    lower.axhline(_TOLERANCE, color=canvas.MUTED, lw=1)
    lower.text(steps[0], _TOLERANCE * 2, "tolerance of the certificate", fontsize=8, color=canvas.MUTED)
    lower.set_yscale("log")
    lower.set_ylim(_SMALLEST / 2, 1e-7)
    lower.set_ylabel(f"distance from {names[0]}")
    lower.set_xlabel("optimizer step")
    for axes in (upper, lower):
        _dress(axes)
    upper.set_xticklabels([])
    return figure


def _dress(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=canvas.RULE, lw=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
