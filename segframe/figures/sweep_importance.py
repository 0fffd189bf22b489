"""How much of the difference between trials each parameter explains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from segframe.figures import canvas
from segframe.figures.sweep_history import TRIAL

_TEXT = 9.5
_BAR, _LENGTH, _BOTTOM, _TOP, _RIGHT = 0.3, 4.6, 0.55, 0.4, 0.6
_MAX_BARS = 30


def sweep_importance(shares: Mapping[str, float], caption: str, out: str | Path) -> None:
    """Draws a bar per parameter, the most important first, as a PNG.

    Args:
        shares: What each parameter explains, 0..1.
        caption: How that was found.
        out: The file.
    """
    canvas.save(sweep_importance_figure(shares, caption), out)


def sweep_importance_figure(shares: Mapping[str, float], caption: str) -> Figure:
    """Returns the picture of ``sweep_importance`` as a figure.

    Raises:
        ValueError: If there is no parameter.
    """
    if not shares:
        raise ValueError("no parameter varies, so there is no importance to draw; give a key several values.")
    ordered = sorted(shares.items(), key=lambda item: (-item[1], item[0]))[:_MAX_BARS]
    names = [canvas.clipped(name, 3.2, _TEXT) for name, _ in ordered]
    left, height = canvas.text_width(names, _TEXT) + 0.25, len(ordered) * _BAR
    width = max(left + _LENGTH + _RIGHT, canvas.text_width([caption], _TEXT - 1) + 0.3)
    figure = canvas.new_figure(width, _BOTTOM + height + _TOP)
    axes = canvas.add_axes(figure, left, _BOTTOM, width - left - _RIGHT, height)
    canvas.plain(axes)
    axes.barh(range(len(ordered)), [share for _, share in ordered], height=0.7, color=TRIAL, zorder=2)
    for place, (_, share) in enumerate(ordered):
        axes.text(share + 0.01, place, f"{100 * share:.0f} %", va="center", fontsize=_TEXT - 0.5, color=canvas.INK)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(ordered) - 0.4, -0.6)
    axes.set_yticks(range(len(ordered)), names, fontsize=_TEXT, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"], fontsize=_TEXT - 0.5)
    axes.grid(axis="x", color=canvas.RULE, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.set_xlabel("share of what all parameters explain", fontsize=_TEXT)
    canvas.write(figure, 0.15, _BOTTOM + height + _TOP - 0.1, caption, _TEXT - 1, color=canvas.MUTED)
    return figure
