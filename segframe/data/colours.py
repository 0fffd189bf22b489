"""Colours for classes that come without."""

from __future__ import annotations

from functools import cache
from itertools import product

import cv2
import numpy as np

from segframe.data.labels import Colour

_LEVELS = (0, 43, 85, 128, 170, 213, 255)
# Ignored pixels are striped in these greys, and errors are red.
_TAKEN = ((0, 0, 0), (255, 255, 255), (128, 128, 128), (168, 168, 168))


@cache
def distinct_colours(count: int) -> tuple[Colour, ...]:
    """Returns colours that differ as much as possible, always the same ones in the same order.

    Each is, of a grid of colours, the one farthest in CIE L*a*b* from all before it and from black, white
    and the greys.

    Args:
        count: How many, at most 254.

    >>> distinct_colours(2) == distinct_colours(3)[:2]
    True
    """
    grid = np.array(list(product(_LEVELS, repeat=3)), np.uint8)
    lab = _lab(grid)
    distance = np.full(len(grid), np.inf)
    for taken in _lab(np.array(_TAKEN, np.uint8)):
        distance = np.minimum(distance, np.linalg.norm(lab - taken, axis=1))
    chosen = []
    for _ in range(count):
        best = int(distance.argmax())
        chosen.append(best)
        distance = np.minimum(distance, np.linalg.norm(lab - lab[best], axis=1))
    return tuple((int(red), int(green), int(blue)) for red, green, blue in grid[chosen])


def _lab(colours: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Returns colours (N, 3) of 0..255 in CIE L*a*b*, (N, 3)."""
    scaled = (colours / 255).astype(np.float32)[:, None]
    return np.asarray(cv2.cvtColor(scaled, cv2.COLOR_RGB2LAB)[:, 0])
