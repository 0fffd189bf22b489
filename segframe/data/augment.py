"""Geometric augmentation on the CPU: choose a window, read only that, resize it once."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segframe.contracts import IGNORE_INDEX
from segframe.data.randomness import Stream, generator
from segframe.ranges import Fraction, NonNegativeInt, Positive, PositiveInt

Pixels = NDArray[np.uint8]

_ATTEMPTS = 10  # windows that are tried for max_class_share, as many as other frameworks try
_PROBES = 64  # rows and columns at which a window's class shares are measured


@dataclass(frozen=True)
class Window:
    """Rows ``top`` to ``top + height`` and columns ``left`` to ``left + width`` of an image; may reach beyond it."""

    top: int
    left: int
    height: int
    width: int


class Augment:
    """Cuts a random window at a random scale out of a sample, and mirrors it.

    The result is a pure function of (seed, epoch, index). A window of whole source pixels is resized to
    ``crop_size``, the image bilinearly and the mask to the nearest pixel, both with the same pixel
    centres; so the two scales differ from the drawn one, and from each other, by the rounding of the
    window to whole pixels. What reaches beyond the image is ``fill`` and ignored.

    Args:
        crop_size: Rows and columns of the result, in pixels; None keeps the whole image.
        scale: Smallest and largest factor by which the image is enlarged; drawn uniformly.
        flip: Probability of mirroring left and right.
        max_class_share: Windows where a class holds more than this share of the labelled pixels are
            drawn anew, up to ten times; the best is taken then. 1 takes the first.
        fill: Red, green and blue, 0 to 1, of what lies beyond the image.
        seed: The run's seed.

    Raises:
        ValueError: If ``scale`` is not ordered, or differs from (1, 1) for whole images.
    """

    def __init__(
        self,
        crop_size: tuple[PositiveInt, PositiveInt] | None,
        scale: tuple[Positive, Positive] = (0.5, 2.0),
        flip: Fraction = 0.5,
        max_class_share: Fraction = 1.0,
        fill: tuple[Fraction, Fraction, Fraction] = (0.485, 0.456, 0.406),
        seed: NonNegativeInt = 0,
    ) -> None:
        low, high = scale
        if low > high:
            raise ValueError(f"scale={list(scale)} must be [smallest, largest]; swap the two.")
        if crop_size is None and (low, high) != (1, 1):
            raise ValueError(
                f"scale={list(scale)} needs a crop_size, since images of several sizes make no batch; "
                "set crop_size=[rows, columns], or scale=[1.0, 1.0]."
            )
        self.crop_size = None if crop_size is None else (crop_size[0], crop_size[1])
        self.scale, self.flip, self.max_class_share = (low, high), flip, max_class_share
        self.fill = tuple(round(255 * value) for value in fill)
        self.seed = seed

    def __call__(self, image: Pixels, mask: Pixels, epoch: int, index: int) -> tuple[Pixels, Pixels]:
        """Returns the augmented sample.

        Args:
            image: (H, W, 3).
            mask: (H, W).
            epoch: From 0.
            index: The sample's position in the data set.
        """
        rng = generator(Stream.WINDOW, self.seed, epoch, index)
        mirrored = rng.random() < self.flip
        if self.crop_size is not None:
            window = self._choose(rng, mask, self.crop_size)
            image = cut(image, window, self.crop_size, cv2.INTER_LINEAR, self.fill)
            mask = cut(mask, window, self.crop_size, cv2.INTER_NEAREST_EXACT, (IGNORE_INDEX,))
        if mirrored:
            image, mask = cv2.flip(image, 1), cv2.flip(mask, 1)  # type: ignore[assignment]
        return image, mask

    def _choose(self, rng: np.random.Generator, mask: Pixels, crop_size: tuple[int, int]) -> Window:
        factor = rng.uniform(*self.scale)
        best, lowest = _draw(rng, mask.shape, crop_size, factor), 1.0
        if self.max_class_share >= 1:
            return best
        window = best
        for attempt in range(_ATTEMPTS):
            if attempt:
                window = _draw(rng, mask.shape, crop_size, factor)
            share = class_share(mask, window)
            if share <= self.max_class_share:
                return window
            if share < lowest:
                best, lowest = window, share
        return best


def _draw(rng: np.random.Generator, size: tuple[int, ...], crop_size: tuple[int, int], factor: float) -> Window:
    height, width = (max(1, round(crop / factor)) for crop in crop_size)
    top, left = (
        int(rng.integers(min(0, free), max(0, free), endpoint=True)) for free in (size[0] - height, size[1] - width)
    )
    return Window(top, left, height, width)


def class_share(mask: Pixels, window: Window) -> float:
    """Returns the largest class's share of a window's labelled pixels, probed on a grid; 1 without any."""
    step = max(1, window.height // _PROBES), max(1, window.width // _PROBES)
    part = mask[
        max(0, window.top) : window.top + window.height : step[0],
        max(0, window.left) : window.left + window.width : step[1],
    ]
    counts = np.bincount(part.ravel(), minlength=IGNORE_INDEX + 1)[:IGNORE_INDEX]
    return float(counts.max() / counts.sum()) if counts.any() else 1.0


def cut(source: Pixels, window: Window, size: tuple[int, int], interpolation: int, fill: tuple[int, ...]) -> Pixels:
    """Returns a window of an image or mask, resized to ``size``, with ``fill`` where it reaches beyond.

    Args:
        source: (H, W) or (H, W, 3).
        window: What to read.
        size: Rows and columns of the result.
        interpolation: OpenCV's number of a method that maps pixel centres to pixel centres.
        fill: One value per channel.
    """
    rows, row_span = _overlap(window.top, window.height, source.shape[0], size[0])
    columns, column_span = _overlap(window.left, window.width, source.shape[1], size[1])
    part = source[rows, columns]
    inner = row_span[1] - row_span[0], column_span[1] - column_span[0]
    if part.shape[:2] != inner:
        part = cv2.resize(part, inner[::-1], interpolation=interpolation)  # type: ignore[assignment]
    if inner == size:
        return np.ascontiguousarray(part)
    result = np.empty((*size, *source.shape[2:]), source.dtype)
    result[...] = fill if source.ndim == 3 else fill[0]
    result[slice(*row_span), slice(*column_span)] = part
    return result


def _overlap(start: int, length: int, limit: int, size: int) -> tuple[slice, tuple[int, int]]:
    """Returns, along one axis, the source pixels to read and the pixels of the result that they fill."""
    first, last = max(0, start), min(limit, start + length)
    begin, end = round((first - start) * size / length), round((last - start) * size / length)
    begin = min(begin, size - 1)
    return slice(first, last), (begin, max(begin + 1, end))
