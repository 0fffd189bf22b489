"""Geometric augmentation on the CPU: choose a window, read only that, resample it once."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, NamedTuple

import cv2
import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray

from segframe.contracts import IGNORE_INDEX
from segframe.data.randomness import Stream, generator
from segframe.data.warp import Pixels, Window, cut
from segframe.ranges import Fraction, NonNegativeInt, Positive, PositiveInt

_ATTEMPTS = 10  # windows that are tried for what a crop shall hold, as many as other frameworks try
_PROBES = 64  # rows and columns at which a window's class shares are measured


class Wanted(NamedTuple):
    """What a crop shall hold.

    Attributes:
        label: A class.
        share: Its smallest share of the crop's labelled pixels.
    """

    label: int
    share: float


class Augment:
    """Cuts a random window at a random scale and angle out of a sample, mirrors it, and blurs the image.

    The result is a pure function of (seed, epoch, index). A window of whole source pixels is resampled to
    ``crop_size`` in one step, the image bilinearly and the mask to the nearest pixel, with the same pixel
    centres; so the two axes' scales differ from the drawn one by the rounding of the window to whole
    pixels. What reaches beyond the image is ``fill`` and ignored.

    Args:
        crop_size: Rows and columns of the result, in pixels; None keeps the whole image.
        scale: Smallest and largest factor by which the image is enlarged; drawn uniformly.
        flip: Probability of mirroring left and right.
        max_class_share: Windows where a class holds more than this share of the labelled pixels are
            drawn anew, up to ten times; the best is taken then. 1 takes the first. It is measured before
            the window is turned.
        fill: Red, green and blue, 0 to 1, of what lies beyond the image.
        rotate: Largest angle by which the window is turned about its centre, in degrees; drawn uniformly
            from both directions.
        rotate_probability: Probability of turning it.
        blur: Probability of blurring the image with a Gaussian, after it is resampled.
        blur_sigma: Smallest and largest standard deviation of the Gaussian, in pixels of the crop; drawn
            uniformly.
        seed: The run's seed.

    Raises:
        ValueError: If ``scale`` or ``blur_sigma`` is not ordered, or ``scale`` differs from (1, 1) for
            whole images.
    """

    def __init__(
        self,
        crop_size: tuple[PositiveInt, PositiveInt] | None,
        scale: tuple[Positive, Positive] = (0.5, 2.0),
        flip: Fraction = 0.5,
        max_class_share: Fraction = 1.0,
        fill: tuple[Fraction, Fraction, Fraction] = (0.485, 0.456, 0.406),
        rotate: Annotated[float, Ge(0), Le(180)] = 0.0,
        rotate_probability: Fraction = 1.0,
        blur: Fraction = 0.0,
        blur_sigma: tuple[Positive, Positive] = (0.1, 2.0),
        seed: NonNegativeInt = 0,
    ) -> None:
        for key, (low, high) in (("scale", scale), ("blur_sigma", blur_sigma)):
            if low > high:
                raise ValueError(f"{key}={[low, high]} must be [smallest, largest]; swap the two.")
        if crop_size is None and tuple(scale) != (1, 1):
            raise ValueError(
                f"scale={list(scale)} needs a crop_size, since images of several sizes make no batch; "
                "set crop_size=[rows, columns], or scale=[1.0, 1.0]."
            )
        self.crop_size = None if crop_size is None else (crop_size[0], crop_size[1])
        self.scale, self.flip, self.max_class_share = scale, flip, max_class_share
        self.fill = tuple(round(255 * value) for value in fill)
        self.rotate, self.rotate_probability = rotate, rotate_probability
        self.blur, self.blur_sigma = blur, blur_sigma
        self.seed = seed

    def __call__(
        self, image: Pixels, mask: Pixels, epoch: int, index: int, wanted: Wanted | None = None
    ) -> tuple[Pixels, Pixels]:
        """Returns the augmented sample.

        Args:
            image: (H, W, 3).
            mask: (H, W).
            epoch: From 0.
            index: The number of the draw: equal numbers of an epoch give equal samples.
            wanted: Windows that hold less of a class are drawn anew, up to ten times; the one that holds
                most of it is taken then.
        """
        rng = generator(Stream.WINDOW, self.seed, epoch, index)
        mirrored = rng.random() < self.flip
        angle = self._angle(epoch, index)
        if self.crop_size is not None or angle:
            size = self.crop_size or (mask.shape[0], mask.shape[1])
            window = self._choose(rng, mask, size, wanted) if self.crop_size else Window(0, 0, *size)
            image, mask = cut(image, mask, replace(window, angle=angle), size, self.fill)
        if mirrored:
            image, mask = cv2.flip(image, 1), cv2.flip(mask, 1)  # type: ignore[assignment]
        return self._blurred(image, epoch, index), mask

    def _angle(self, epoch: int, index: int) -> float:
        if not self.rotate:
            return 0.0
        rng = generator(Stream.ROTATION, self.seed, epoch, index)
        return rng.uniform(-self.rotate, self.rotate) if rng.random() < self.rotate_probability else 0.0

    def _blurred(self, image: Pixels, epoch: int, index: int) -> Pixels:
        if not self.blur:
            return image
        rng = generator(Stream.BLUR, self.seed, epoch, index)
        if rng.random() >= self.blur:
            return image
        return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(*self.blur_sigma)), np.uint8)

    def _choose(
        self, rng: np.random.Generator, mask: Pixels, crop_size: tuple[int, int], wanted: Wanted | None
    ) -> Window:
        factor = rng.uniform(*self.scale)
        best = window = _draw(rng, mask.shape, crop_size, factor)
        if self.max_class_share >= 1 and wanted is None:
            return best
        least = (math.inf, math.inf)
        for attempt in range(_ATTEMPTS):
            if attempt:
                window = _draw(rng, mask.shape, crop_size, factor)
            faults = self._faults(mask, window, wanted)
            if not any(faults):
                return window
            if faults < least:
                best, least = window, faults
        return best

    def _faults(self, mask: Pixels, window: Window, wanted: Wanted | None) -> tuple[float, float]:
        """Returns how much a window lacks of what is wanted, and the share of a class that holds too much; else 0."""
        shares = class_shares(mask, window)
        lack = 0.0 if wanted is None else max(0.0, wanted.share - float(shares[wanted.label]))
        largest = float(shares.max()) or 1.0  # none is labelled
        return lack, 0.0 if largest <= self.max_class_share else largest


def _draw(rng: np.random.Generator, size: tuple[int, ...], crop_size: tuple[int, int], factor: float) -> Window:
    height, width = (max(1, round(crop / factor)) for crop in crop_size)
    top, left = (
        int(rng.integers(min(0, free), max(0, free), endpoint=True)) for free in (size[0] - height, size[1] - width)
    )
    return Window(top, left, height, width)


def class_shares(mask: Pixels, window: Window) -> NDArray[np.float64]:
    """Returns each class's share (255,) of an upright window's labelled pixels, probed on a grid; 0 without any."""
    step = max(1, window.height // _PROBES), max(1, window.width // _PROBES)
    part = mask[
        max(0, window.top) : window.top + window.height : step[0],
        max(0, window.left) : window.left + window.width : step[1],
    ]
    counts = np.bincount(part.ravel(), minlength=IGNORE_INDEX + 1)[:IGNORE_INDEX]
    return np.asarray(counts / max(1, counts.sum()))
