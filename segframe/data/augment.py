"""Geometric augmentation on the CPU: choose a window, read only that, resample it once."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, NamedTuple

import cv2
import numpy as np
from annotated_types import Ge, Le
from numpy.typing import NDArray

from segframe.contracts import IGNORE_INDEX, Span
from segframe.data.randomness import Stream, generator
from segframe.data.reading import Arrays, Pixels, Source, own_rows
from segframe.data.warp import cut_rows
from segframe.data.window import Window
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


class Augmented(NamedTuple):
    """Rows of an augmented sample.

    Attributes:
        image: (h, W, 3).
        mask: (h, W), or (H, W) where all of it was asked for.
        span: Which of the H rows.
    """

    image: Pixels
    mask: Pixels
    span: Span


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
        found = self.rows(Arrays(image, mask), epoch, index, wanted)
        return found.image, found.mask

    def rows(
        self,
        source: Source,
        epoch: int,
        index: int,
        wanted: Wanted | None = None,
        row_part: tuple[int, int] = (0, 1),
        whole_mask: bool = False,
    ) -> Augmented:
        """Returns rows of the augmented sample, those of the whole to the bit; reads what they need and no more.

        The mask is read as a whole where a window is chosen by what it holds.

        Args:
            source: The pair.
            epoch: As above.
            index: As above.
            wanted: As above.
            row_part: (index, count): which of ``count`` parts.
            whole_mask: Whether all rows of the mask are returned.

        Raises:
            ValueError: If the sample has fewer rows than there are parts.
        """
        rng = generator(Stream.WINDOW, self.seed, epoch, index)
        mirrored = rng.random() < self.flip
        angle, sigma = self._angle(epoch, index), self._sigma(epoch, index)
        size = self.crop_size or source.size
        window = self._choose(rng, source, size, wanted) if self.crop_size else Window(0, 0, *size)
        span = own_rows(size[0], row_part)
        around = _around(span, sigma)
        labelled = range(size[0]) if whole_mask else range(span.start, span.stop)
        image, mask = cut_rows(source, replace(window, angle=angle), size, self.fill, around, labelled)
        if mirrored:
            image, mask = cv2.flip(image, 1), cv2.flip(mask, 1)  # type: ignore[assignment]
        if sigma:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)
        return Augmented(image[span.start - around.start : span.stop - around.start], mask, span)

    def _angle(self, epoch: int, index: int) -> float:
        if not self.rotate:
            return 0.0
        rng = generator(Stream.ROTATION, self.seed, epoch, index)
        return rng.uniform(-self.rotate, self.rotate) if rng.random() < self.rotate_probability else 0.0

    def _sigma(self, epoch: int, index: int) -> float:
        """Returns the blur's standard deviation; 0 leaves the image sharp."""
        if not self.blur:
            return 0.0
        rng = generator(Stream.BLUR, self.seed, epoch, index)
        return rng.uniform(*self.blur_sigma) if rng.random() < self.blur else 0.0

    def _choose(
        self, rng: np.random.Generator, source: Source, crop_size: tuple[int, int], wanted: Wanted | None
    ) -> Window:
        factor = rng.uniform(*self.scale)
        best = window = _draw(rng, source.size, crop_size, factor)
        if self.max_class_share >= 1 and wanted is None:
            return best
        mask = source.mask(slice(0, source.size[0]), slice(0, source.size[1]))
        least = (math.inf, math.inf)
        for attempt in range(_ATTEMPTS):
            if attempt:
                window = _draw(rng, source.size, crop_size, factor)
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


def _around(span: Span, sigma: float) -> range:
    """Returns the rows that a blur of some rows looks at."""
    if not sigma:
        return range(span.start, span.stop)
    # OpenCV's kernel for 8 bits is the odd number next to 6 sigma + 1 wide; one more row costs nothing.
    reach = math.ceil(3 * sigma) + 2
    return range(max(0, span.start - reach), min(span.height, span.stop + reach))


def class_shares(mask: Pixels, window: Window) -> NDArray[np.float64]:
    """Returns each class's share (255,) of an upright window's labelled pixels, probed on a grid; 0 without any."""
    step = max(1, window.height // _PROBES), max(1, window.width // _PROBES)
    part = mask[
        max(0, window.top) : window.top + window.height : step[0],
        max(0, window.left) : window.left + window.width : step[1],
    ]
    counts = np.bincount(part.ravel(), minlength=IGNORE_INDEX + 1)[:IGNORE_INDEX]
    return np.asarray(counts / max(1, counts.sum()))
