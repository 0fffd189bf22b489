"""Which classes are mixed up most."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from segframe.figures import canvas
from segframe.metrics.mistakes import Mistake

_BAR, _TEXT, _LENGTH, _CHIP = 0.27, 9.0, 3.6, 0.16
_BOTTOM, _TOP = 0.6, 0.45


def mistake_bars_figure(
    found: Sequence[Mistake], classes: Sequence[str], palette: Sequence[tuple[int, int, int]]
) -> Figure:
    """Returns a bar per pair of classes: its share of all wrong pixels, in the colour that was predicted.

    Args:
        found: What ``segframe.metrics.mistakes.mistakes`` returns.
        classes: Class names in the order of their ids.
        palette: One (red, green, blue) of 0..255 per class.
    """
    names = [f"{canvas.short(one.truth)} → {canvas.short(one.prediction)}" for one in found]
    label = canvas.text_width(names, _TEXT) + 0.25 + _CHIP
    height = max(len(found), 1) * _BAR
    numbers = [
        f"{canvas.percent(one.of_wrong)} %   ({canvas.percent(one.of_truth)} % of {canvas.short(one.truth)})"
        for one in found
    ]
    right = canvas.text_width(numbers, _TEXT - 1) + 0.25
    figure = canvas.new_figure(label + _LENGTH + right, _BOTTOM + height + _TOP)
    axes = canvas.add_axes(figure, label, _BOTTOM, _LENGTH, height)
    canvas.plain(axes)
    axes.set_title("truth (box) → prediction (bar)", fontsize=_TEXT + 1.5, loc="left", pad=8)
    colours = {name: canvas.unit(colour) for name, colour in zip(classes, palette, strict=True)}
    longest = max((100 * one.of_wrong for one in found), default=1.0)
    for place, one in enumerate(found):
        axes.barh(
            place, 100 * one.of_wrong, 0.72, color=colours[one.prediction], edgecolor="#404040", linewidth=0.5, zorder=2
        )
        _number(axes, numbers[place], (100 * one.of_wrong, place))
        _chip(axes, place, colours[one.truth])
    if not found:
        axes.set_axis_off()
        axes.text(0, 0, "no pixel is wrong", va="center", fontsize=_TEXT + 1, color=canvas.MUTED)
        return figure
    _dress(axes, names, longest)
    return figure


def _number(axes: Axes, text: str, end: tuple[float, float]) -> None:
    """Writes behind the end of a bar, over the grid."""
    axes.annotate(
        text,
        end,
        (5, 0),
        textcoords="offset points",
        va="center",
        fontsize=_TEXT - 1,
        parse_math=False,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
    )


def _chip(axes: Axes, place: int, colour: tuple[float, float, float]) -> None:
    """Draws the true class's colour between its name and the bar."""
    width = _CHIP / _LENGTH
    box = Rectangle(
        (-1.4 * width, place - 0.36),
        width,
        0.72,
        transform=axes.get_yaxis_transform(),
        facecolor=colour,
        edgecolor="#404040",
        linewidth=0.5,
        clip_on=False,
    )
    axes.add_patch(box)


def _dress(axes: Axes, names: Sequence[str], longest: float) -> None:
    axes.set_xlim(0, longest)
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), names, fontsize=_TEXT, parse_math=False)
    axes.tick_params(axis="y", length=0, pad=6 + 72 * _CHIP)
    axes.tick_params(axis="x", labelsize=_TEXT - 0.5)
    axes.grid(axis="x", color=canvas.RULE, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.set_xlabel("share of all wrong pixels, %", fontsize=_TEXT)
