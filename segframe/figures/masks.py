"""Class ids as colours.

Shape suffixes: H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

IGNORED_DARK, IGNORED_LIGHT = 128, 168
"""The greys of the stripes on ignored pixels."""

RGB = npt.NDArray[np.uint8]


def colored(ids: npt.NDArray[Any], palette: Sequence[tuple[int, int, int]], ignore_index: int) -> RGB:
    """Returns class ids (H, W) in the colours of the palette, uint8 (H, W, 3); ignored pixels are striped."""
    table = np.zeros((max(256, len(palette)), 3), np.uint8)
    table[: len(palette)] = palette
    ignored = ids == ignore_index
    picture = table[np.where(ignored, 0, ids).astype(np.int64)]
    return striped(picture, ignored)


def overlaid(
    image: RGB, ids: npt.NDArray[Any], palette: Sequence[tuple[int, int, int]], ignore_index: int, strength: float = 0.6
) -> RGB:
    """Returns an image (H, W, 3) under the colours of its class ids (H, W); ignored pixels are striped.

    Args:
        image: uint8.
        ids: Class ids and the ignored label.
        palette: One (red, green, blue) of 0..255 per class.
        ignore_index: The label of pixels that don't count.
        strength: Share of the colour; the image's grey has the rest, so that hues are those of the palette.
    """
    grey = image.mean(-1, keepdims=True)
    return np.asarray(strength * colored(ids, palette, ignore_index) + (1 - strength) * grey, np.uint8)


def striped(picture: RGB, where: npt.NDArray[np.bool_]) -> RGB:
    """Puts grey stripes into a picture (H, W, 3) wherever a mask (H, W) is true, and returns it."""
    height, width = where.shape
    period = max(2, round(max(height, width) / 60))
    diagonal = (np.arange(height)[:, None] + np.arange(width)) // period % 2
    stripes = np.where(diagonal == 0, IGNORED_DARK, IGNORED_LIGHT).astype(np.uint8)
    picture[where] = stripes[where][:, None]
    return picture
