"""Sizes, fonts and files that all pictures share; lengths are in inches."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

DPI = 160
INK, MUTED, RULE = "#1a1a1a", "#757575", "#d8d8d8"
_MAX_NAME = 30
_POINTS = 72


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty white figure that no display or global state knows of."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Returns axes at a place in inches from the lower left corner."""
    total_width, total_height = figure.get_size_inches()
    return figure.add_axes((left / total_width, bottom / total_height, width / total_width, height / total_height))


def save(figure: Figure, out: str | Path) -> None:
    """Writes a figure as PNG; its folder is made if it is missing."""
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=DPI)


def pixels(figure: Figure) -> npt.NDArray[np.uint8]:
    """Returns a figure as uint8 (H, W, 3), RGB."""
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba(), dtype=np.uint8)[..., :3]


def text_width(texts: Iterable[str], size: float, weight: str = "normal") -> float:
    """Returns how wide the longest of some texts is at a font size in points."""
    renderer: Any = _renderer()
    font = FontProperties(size=size, weight=weight)
    widths = (renderer.get_text_width_height_descent(text, font, False)[0] for text in texts)
    return max(widths, default=0.0) / DPI


@cache
def _renderer() -> Any:
    return FigureCanvasAgg(Figure(figsize=(1, 1), dpi=DPI)).get_renderer()  # type: ignore[no-untyped-call]


def line_height(size: float) -> float:
    """Returns the height of a line of text with its spacing."""
    return 1.35 * size / _POINTS


def short(name: str) -> str:
    """Returns a name that is cut where it would take the room of the picture."""
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1].rstrip()}…"


def percent(share: float) -> str:
    """Returns a share of 0..1 in percent, to two digits at least.

    >>> [percent(share) for share in (1.0, 0.123, 0.0456, 0.00007)]
    ['100', '12', '4.6', '0.007']
    """
    return f"{100 * share:.0f}" if share >= 0.0995 else f"{100 * share:.2g}"


def clipped(text: str, width: float, size: float, weight: str = "normal") -> str:
    """Returns a text, such as a path, that is cut at its front to a width at a font size in points."""
    if text_width([text], size, weight) <= width:
        return text
    fitting = bisect_left(range(len(text)), True, key=lambda cut: text_width([f"…{text[cut:]}"], size, weight) <= width)
    return f"…{text[fitting:]}"


def write(figure: Figure, left: float, top: float, text: str, size: float, **style: Any) -> None:
    """Writes a text at a place in inches from the left and from below, its upper edge there."""
    width, height = figure.get_size_inches()
    figure.text(left / width, top / height, text, fontsize=size, va="top", parse_math=False, **style)


def fitted(shape: Sequence[int], side: float) -> tuple[float, float]:
    """Returns the height and width of a picture (H, W) whose longer side is ``side``."""
    scale = side / max(shape[:2])
    return shape[0] * scale, shape[1] * scale


def ink_on(color: Sequence[float]) -> str:
    """Returns black or white, whichever is easier to read on a colour of 0..1 (WCAG 2.2 luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if luminance > 0.179 else "white"


def unit(color: Sequence[int]) -> tuple[float, float, float]:
    """Returns a colour of 0..255 as one of 0..1."""
    red, green, blue = color
    return red / 255, green / 255, blue / 255


def plain(axes: Axes) -> None:
    """Leaves only the left and lower lines of axes, in grey."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
    axes.tick_params(color=MUTED, labelcolor=INK)
