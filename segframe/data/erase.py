"""Random erasing: rectangles of an image that the net must do without.

Source: Zhong et al., "Random Erasing Data Augmentation", AAAI 2020, algorithm 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

_ATTEMPTS = 10


class Rectangle(NamedTuple):
    """Rows and columns of an image."""

    rows: slice
    columns: slice


def rectangle(
    rng: np.random.Generator,
    size: tuple[int, int],
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> Rectangle | None:
    """Returns a random rectangle inside an image, or None where ten draws gave none that fits.

    Deviations: the paper draws until one fits, and draws the aspect uniformly from [r, 1 / r], so that more
    than half are tall; here its logarithm is uniform.

    Args:
        rng: Where the numbers come from.
        size: Rows and columns of the image.
        area: Smallest and largest share of the image.
        aspect: Smallest and largest ratio of height to width.
    """
    for _ in range(_ATTEMPTS):
        pixels = rng.uniform(*area) * size[0] * size[1]
        ratio = math.exp(rng.uniform(*np.log(aspect)))
        height, width = max(1, round(math.sqrt(pixels * ratio))), max(1, round(math.sqrt(pixels / ratio)))
        if height <= size[0] and width <= size[1]:
            top, left = (int(rng.integers(free, endpoint=True)) for free in (size[0] - height, size[1] - width))
            return Rectangle(slice(top, top + height), slice(left, left + width))
    return None
