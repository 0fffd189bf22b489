"""What is done to a batch on its device: colour jitter and normalisation, from uint8 in one pass.

Shape suffixes: B batch, C channels (3), H rows, W columns, N = H * W.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from segframe.contracts import Batch
from segframe.data.randomness import Stream, generator
from segframe.ranges import Fraction, NonNegativeInt, Positive

_GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601


class Preprocess:
    """Turns uint8 images into a net's input: in training with jittered colours, in evaluation without.

    Brightness multiplies, contrast blends with the image's mean grey, saturation with each pixel's grey;
    the factors are drawn from [1 - strength, 1 + strength] as a pure function of (seed, epoch, index).
    All three are affine in the colour, so they are applied as one 3 x 3 matrix and an offset per image.
    Deviation from torchvision: their order is fixed and values are clamped once, at the end.

    Args:
        mean: Red, green, blue of 0 to 1 that becomes 0.
        std: Red, green, blue of 0 to 1 that becomes 1 above the mean.
        brightness: Strength; 0 leaves it.
        contrast: Strength; 0 leaves it.
        saturation: Strength; 0 leaves it.
        seed: The run's seed.
    """

    def __init__(
        self,
        mean: tuple[Fraction, Fraction, Fraction],
        std: tuple[Positive, Positive, Positive],
        brightness: Fraction = 0.0,
        contrast: Fraction = 0.0,
        saturation: Fraction = 0.0,
        seed: NonNegativeInt = 0,
    ) -> None:
        self.mean, self.std = tuple(mean), tuple(std)
        self.strengths = (brightness, contrast, saturation)
        self.seed = seed

    def __call__(self, batch: Batch, *, epoch: int | None, dtype: torch.dtype) -> Tensor:
        """Returns the images (B, 3, H, W) as ``dtype``, in the memory order that they came in.

        Args:
            batch: On the device.
            epoch: The training epoch, from 0; None in evaluation, which jitters nothing.
            dtype: The net's number format.
        """
        if epoch is None or not any(self.strengths):
            return normalise(batch.image, self.mean, self.std, dtype)
        factors = [self._factors(epoch, index) for index in batch.indices.tolist()]
        factors_B3 = torch.from_numpy(np.stack(factors)).to(batch.image.device, dtype, non_blocking=True)
        return normalise(jitter(batch.image.to(dtype), factors_B3), self.mean, self.std, dtype)

    def _factors(self, epoch: int, index: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        strengths = np.array(self.strengths)
        return generator(Stream.COLOUR, self.seed, epoch, index).uniform(1 - strengths, 1 + strengths)


def normalise(image_BCHW: Tensor, mean: tuple[float, ...], std: tuple[float, ...], dtype: torch.dtype) -> Tensor:
    """Maps values of 0..255 to (value / 255 - mean) / std."""
    mean_C, std_C = (_constant(tuple(values), image_BCHW.device, dtype) for values in (mean, std))
    return (image_BCHW.to(dtype) - 255 * mean_C[:, None, None]).div_(255 * std_C[:, None, None])


def jitter(image_BCHW: Tensor, factors_B3: Tensor) -> Tensor:
    """Scales brightness, contrast and saturation of images of 0..255 by three factors per image."""
    brightness_B11, contrast_B11, saturation_B11 = factors_B3[:, :, None, None].unbind(1)
    grey_C = _constant(_GREY, image_BCHW.device, image_BCHW.dtype)
    identity_CC = torch.eye(3, device=image_BCHW.device, dtype=image_BCHW.dtype)
    to_grey_CC = grey_C.expand(3, 3)
    saturate_BCC = saturation_B11 * identity_CC + (1 - saturation_B11) * to_grey_CC
    matrix_BCC = brightness_B11 * contrast_B11 * saturate_BCC
    # A grey offset passes the saturation matrix unchanged: its rows sum to 1.
    mean_grey_B = image_BCHW.mean((2, 3)) @ grey_C
    offset_B11 = ((1 - contrast_B11) * brightness_B11).view(-1, 1, 1) * mean_grey_B.view(-1, 1, 1)
    pixels_BNC = image_BCHW.permute(0, 2, 3, 1).flatten(1, 2)
    pixels_BNC = torch.baddbmm(offset_B11, pixels_BNC, matrix_BCC.transpose(1, 2)).clamp_(0, 255)
    return pixels_BNC.view(-1, *image_BCHW.shape[2:], 3).permute(0, 3, 1, 2)


@lru_cache
def _constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Kept on the device: copying numbers there in each step would wait for the device's queue."""
    return torch.tensor(values, device=device, dtype=dtype)
