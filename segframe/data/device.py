"""What is done to a batch on its device: colour jitter, normalisation and erasing, from uint8 in one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor

from segframe.contracts import Batch, Span
from segframe.data.colour import Factors, Normalisation, mean_colours, transform
from segframe.data.erase import rectangle
from segframe.data.randomness import Stream, generator
from segframe.ranges import Fraction, NonNegativeInt, Positive


class Preprocess:
    """Turns uint8 images into a net's input: in training with varied colours, in evaluation without.

    Brightness multiplies, contrast blends with the image's mean grey, saturation with each pixel's grey,
    and hue turns colours around the grey axis of NTSC's YIQ, which keeps their luma. The first three
    factors are drawn from [1 - strength, 1 + strength], all as a pure function of (seed, epoch, index).
    The four are affine in the colour, so they and the normalisation are one 3 x 3 matrix and an offset
    per image. Deviations from torchvision: their order is fixed, values are clamped once, at the end, and
    hue is no shift in HSV, which isn't affine and changes the luma.

    Erasing (see ``segframe.data.erase``) puts the mean colour, 0, in a rectangle of the image. Its labels are kept:
    the net has to infer from the surroundings what it can't see.

    Args:
        mean: Red, green, blue of 0 to 1 that becomes 0.
        std: Red, green, blue of 0 to 1 that becomes 1 above the mean.
        brightness: Strength; 0 leaves it.
        contrast: Strength; 0 leaves it.
        saturation: Strength; 0 leaves it.
        hue: Largest share of a full turn, in both directions; 0 leaves it.
        erase: Probability of erasing a rectangle.
        erase_area: Its smallest and largest share of the image.
        erase_aspect: Its smallest and largest ratio of height to width.
        seed: The run's seed.

    Raises:
        ValueError: If ``erase_area`` or ``erase_aspect`` is not ordered.
    """

    def __init__(
        self,
        mean: tuple[Fraction, Fraction, Fraction],
        std: tuple[Positive, Positive, Positive],
        brightness: Fraction = 0.0,
        contrast: Fraction = 0.0,
        saturation: Fraction = 0.0,
        hue: Annotated[float, Ge(0), Le(0.5)] = 0.0,
        erase: Fraction = 0.0,
        erase_area: tuple[Fraction, Fraction] = (0.02, 0.4),
        erase_aspect: tuple[Positive, Positive] = (0.3, 3.33),
        seed: NonNegativeInt = 0,
    ) -> None:
        for key, (low, high) in (("erase_area", erase_area), ("erase_aspect", erase_aspect)):
            if low > high:
                raise ValueError(f"{key}={[low, high]} must be [smallest, largest]; swap the two.")
        self.normalisation = Normalisation(tuple(mean), tuple(std))
        self.strengths, self.hue = (brightness, contrast, saturation), hue
        self.erase, self.erase_area, self.erase_aspect = erase, erase_area, erase_aspect
        self.seed = seed

    def __call__(
        self,
        batch: Batch,
        *,
        epoch: int | None,
        dtype: torch.dtype,
        sum_over_image: Callable[[Tensor], Tensor] = lambda sums: sums,
    ) -> Tensor:
        """Returns the images (B, 3, H, W) as ``dtype``, in the memory order of (B, H, W, 3).

        Args:
            batch: On the device.
            epoch: The training epoch, from 0; None in evaluation, which varies nothing.
            dtype: The net's number format.
            sum_over_image: Adds up, exactly, what all ranks have that hold rows of these images; all of them call it.
        """
        if epoch is None:
            return transform(batch.image, None, self.normalisation, dtype)
        indices = batch.indices.tolist()
        factors = [self.factors(epoch, index) for index in indices] if any((*self.strengths, self.hue)) else None
        means = None
        if factors is not None and any(f.contrast != 1 for f in factors):  # the same on all ranks
            means = mean_colours(batch.image, batch.height * batch.image.shape[3], sum_over_image)
        image_BCHW = transform(batch.image, factors, self.normalisation, dtype, means)
        if self.erase:
            span = batch.span or Span(0, batch.height, batch.height)
            for image_CHW, index in zip(image_BCHW, indices, strict=True):
                self._erase(image_CHW, span, epoch, index)
        return image_BCHW

    def factors(self, epoch: int, index: int) -> Factors:
        """Returns how a training image's colours are varied."""
        rng = generator(Stream.COLOUR, self.seed, epoch, index)
        strengths = np.array(self.strengths)
        brightness, contrast, saturation = rng.uniform(1 - strengths, 1 + strengths).tolist()
        return Factors(brightness, contrast, saturation, hue=rng.uniform(-self.hue, self.hue))

    def _erase(self, image_ChW: Tensor, span: Span, epoch: int, index: int) -> None:
        rng = generator(Stream.ERASING, self.seed, epoch, index)
        if rng.random() >= self.erase:
            return
        size = (span.height, image_ChW.shape[2])
        found = rectangle(rng, size, self.erase_area, self.erase_aspect)
        if found is not None:
            top, bottom = (max(0, row - span.start) for row in (found.rows.start, found.rows.stop))
            image_ChW[:, top:bottom, found.columns] = 0
