"""Affine maps of colours: what jitter and normalisation come down to, applied in one pass over the pixels.

Shape suffixes: B batch, C channels (3), H rows, W columns, N = H * W.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Matrix = NDArray[np.float64]

GREY = np.array([0.299, 0.587, 0.114])  # luma of ITU-R BT.601


class Factors(NamedTuple):
    """What is done to the colours of an image.

    Attributes:
        brightness: Multiplies.
        contrast: Share of the image's own colours, against its mean grey.
        saturation: Share of a pixel's own colour, against its grey.
        hue: Turns that colours go around the grey axis, at equal luma.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float = 0.0


class Normalisation(NamedTuple):
    """Maps a colour of 0..255 to (colour / 255 - mean) / std.

    Attributes:
        mean: Red, green, blue of 0..1 that becomes 0.
        std: Red, green, blue of 0..1 that becomes 1 above the mean.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


@lru_cache
def _luma_and_chroma() -> tuple[Matrix, Matrix]:
    """Returns the map from RGB to (luma, I, Q) of NTSC (FCC 1953), made to keep luma exactly, and its inverse."""
    forward = np.array([GREY, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    # Grey has no chroma: the published digits sum to 0 but for rounding.
    forward[1:] -= forward[1:].mean(1, keepdims=True)
    return forward, np.linalg.inv(forward)


def matrix_of(factors: Factors) -> tuple[Matrix, float]:
    """Returns the map (3, 3) of an image's colours, and how much of its mean grey is added to each.

    Saturation scales the plane of equal luma and hue turns it, so the two commute, and leave grey as it is.
    """
    forward, backward = _luma_and_chroma()
    cosine, sine = (factors.saturation * f(2 * math.pi * factors.hue) for f in (math.cos, math.sin))
    turned = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    matrix = factors.brightness * factors.contrast * (backward @ turned @ forward)
    return matrix, factors.brightness * (1 - factors.contrast)


def mean_colours(
    image_BCHW: Tensor, num_pixels: int, sum_over_image: Callable[[Tensor], Tensor] = lambda sums: sums
) -> Tensor:
    """Returns the mean red, green and blue of 0..255 of images (B, 3), in 64 bits where the device has them.

    Sums are exact, so the result does not depend on how images are split.

    Args:
        image_BCHW: uint8, whole images or some rows of each.
        num_pixels: Pixels of a whole image.
        sum_over_image: Adds up what all holders of rows of the same images have.
    """
    image_BHWC, device = image_BCHW.permute(0, 2, 3, 1), image_BCHW.device.type
    if device == "cpu":
        sums = torch.tensor([cv2.sumElems(image)[:3] for image in image_BHWC.numpy()], dtype=torch.int64)
    else:
        sums = image_BHWC.sum((1, 2), dtype=torch.int64)
    return sum_over_image(sums).to(torch.float32 if device == "mps" else torch.float64) * (1.0 / num_pixels)


def transform(
    image_BCHW: Tensor,
    factors: Sequence[Factors] | None,
    normalisation: Normalisation,
    dtype: torch.dtype,
    mean_BC: Tensor | None = None,
) -> Tensor:
    """Returns images with changed colours, held to what 0..255 becomes, and normalised.

    Args:
        image_BCHW: uint8, in the memory order of (B, H, W, 3); another order costs a copy.
        factors: One per image; None leaves colours as they are.
        normalisation: Folded into the same pass.
        dtype: Of the result; the arithmetic is 32 or 64 bits.
        mean_BC: The images' mean colours, as ``mean_colours`` gives them; None takes the mean of what is here.
    """
    if mean_BC is None and factors is not None:
        mean_BC = mean_colours(image_BCHW, image_BCHW.shape[2] * image_BCHW.shape[3])
    image_BHWC = image_BCHW.permute(0, 2, 3, 1).contiguous()
    working = torch.float64 if dtype == torch.float64 else torch.float32
    apply = _on_cpu if image_BHWC.device.type == "cpu" else _on_device
    result_BHWC = apply(image_BHWC, factors, normalisation, working, mean_BC)
    width = image_BHWC.shape[2]
    # One bound per value of a row: bounds per channel would be broadcast along the fastest axis, 10 times as slow.
    low, high = (_bound(normalisation, value, width, image_BHWC.device, working) for value in (0.0, 1.0))
    torch.clamp(rows := result_BHWC.flatten(2), low, high, out=rows)
    return result_BHWC.to(dtype).permute(0, 3, 1, 2)


def _normalised(matrix: Matrix, offset: Matrix, normalisation: Normalisation) -> tuple[Matrix, Matrix]:
    mean, std = np.array(normalisation.mean), np.array(normalisation.std)
    return matrix / (255 * std[:, None]), (offset / 255 - mean) / std


def _on_cpu(
    image_BHWC: Tensor,
    factors: Sequence[Factors] | None,
    normalisation: Normalisation,
    dtype: torch.dtype,
    mean_BC: Tensor | None,
) -> Tensor:
    """OpenCV multiplies by 3 x 3 matrices at the speed of memory, BLAS at a twentieth of that."""
    result_BHWC = torch.empty(image_BHWC.shape, dtype=dtype)
    target = result_BHWC.numpy()
    for number, image in enumerate(image_BHWC.numpy()):
        matrix, share = (np.eye(3), 0.0) if factors is None else matrix_of(factors[number])
        mean_grey = 0.0 if mean_BC is None else float(GREY @ mean_BC[number].numpy())
        matrix, offset = _normalised(matrix, np.full(3, share * mean_grey), normalisation)
        cv2.transform(image.astype(target.dtype), np.column_stack([matrix, offset]), target[number])
    return result_BHWC


def _on_device(
    image_BHWC: Tensor,
    factors: Sequence[Factors] | None,
    normalisation: Normalisation,
    dtype: torch.dtype,
    mean_BC: Tensor | None,
) -> Tensor:
    """Waits for nothing: the means stay where the images are, and the small matrices go there without a copy back."""
    pixels_BNC = image_BHWC.flatten(1, 2).to(dtype)
    neutral = Factors(1.0, 1.0, 1.0)
    maps = [matrix_of(f) for f in factors or [neutral] * len(pixels_BNC)]
    parts = [(*_normalised(matrix, np.zeros(3), normalisation), share) for matrix, share in maps]
    packed = np.stack(
        [np.concatenate([m.T.ravel(), o, share / (255 * np.array(normalisation.std))]) for m, o, share in parts]
    )
    packed_B15 = torch.from_numpy(packed).to(image_BHWC.device, dtype, non_blocking=True)
    matrix_BCC, offset_B1C, share_B1C = (
        packed_B15[:, :9].view(-1, 3, 3),
        packed_B15[:, None, 9:12],
        packed_B15[:, None, 12:],
    )
    if mean_BC is not None:
        grey_C = _grey(image_BHWC.device, dtype)
        offset_B1C = offset_B1C + share_B1C * (mean_BC.to(dtype) @ grey_C)[:, None, None]
    return torch.baddbmm(offset_B1C, pixels_BNC, matrix_BCC).view(image_BHWC.shape)


@lru_cache
def _grey(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Kept on the device: copying numbers there in each step would wait for the device's queue."""
    return torch.tensor(GREY, device=device, dtype=dtype)


@lru_cache
def _bound(normalisation: Normalisation, value: float, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Returns what a colour of ``value`` in every channel becomes, once per pixel of a row."""
    mean, std = (
        torch.tensor(normalisation.mean, dtype=torch.float64),
        torch.tensor(normalisation.std, dtype=torch.float64),
    )
    return ((value - mean) / std).repeat(width).to(device, dtype)
