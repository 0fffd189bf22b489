"""From a net and a whole image to a score for every pixel: whole, by sliding window, with flips and scales.

Pure functions over a callable; B batch, C channels, K classes, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Literal

import torch
from annotated_types import MinLen
from torch import Tensor
from torch.nn import functional as F

from segframe.contracts import SegmentationOutput
from segframe.ranges import Positive, PositiveInt

Net = Callable[[Tensor], SegmentationOutput]


def whole(net: Net, image_BCHW: Tensor) -> Tensor:
    """Returns the logits (B, K, H, W) of one pass over the whole image."""
    output = net(image_BCHW)
    logits = output.logits
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    return SegmentationOutput(logits).at_size(*image_BCHW.shape[-2:]).logits


def slide(net: Net, image_BCHW: Tensor, window: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Returns log-probabilities (B, K, H, W), averaged where windows overlap.

    Windows follow each other by ``stride``; the last of a row or column ends at the border, and an image
    smaller than a window is passed whole in that direction.

    Args:
        net: Maps an image to logits.
        image_BCHW: Normalised images of one size.
        window: Rows and columns of a window, pixels.
        stride: Rows and columns between windows, pixels.
    """
    height, width = image_BCHW.shape[-2:]
    total: Tensor | None = None
    count = image_BCHW.new_zeros((1, 1, height, width))
    for rows in _spans(height, window[0], stride[0]):
        for columns in _spans(width, window[1], stride[1]):
            part = whole(net, image_BCHW[..., rows, columns]).softmax(1)
            if total is None:
                total = part.new_zeros((*part.shape[:2], height, width))
            total[..., rows, columns] += part
            count[..., rows, columns] += 1
    assert total is not None
    return _log(total / count)


def averaged(score: Callable[[Tensor], Tensor], image_BCHW: Tensor, scales: Sequence[float], flip: bool) -> Tensor:
    """Returns log-probabilities (B, K, H, W), averaged over image scales and the mirrored image.

    Args:
        score: Maps an image to logits (B, K, H, W) of its size.
        image_BCHW: Normalised images of one size.
        scales: Factors by which the image is resized.
        flip: Whether the left-right mirrored image votes too.
    """
    height, width = image_BCHW.shape[-2:]
    total = None
    for scale in scales:
        size = _scaled(height, width, scale)
        scaled = F.interpolate(image_BCHW, size=size, mode="bilinear", align_corners=False)
        for mirrored in (False, True) if flip else (False,):
            logits = score(scaled.flip(-1) if mirrored else scaled)
            logits = logits.flip(-1) if mirrored else logits
            part = SegmentationOutput(logits).at_size(height, width).logits.softmax(1)
            total = part if total is None else total + part
    assert total is not None
    return _log(total / (len(scales) * (2 if flip else 1)))


class Inference:
    """How an image of any size is evaluated; calling it maps (net, image_BCHW) to scores (B, K, H, W).

    Scores are logits for one whole pass and log-probabilities wherever several passes are averaged,
    so the largest is the prediction and a loss over logits accepts both.

    Args:
        mode: One pass over the whole image, or overlapping windows.
        window: Rows and columns of a sliding window, pixels.
        stride: Rows and columns between windows, pixels; not above ``window``.
        scales: Image scales whose probabilities are averaged.
        flip: Whether the mirrored image is averaged in.

    Raises:
        ValueError: If a stride is above its window, or no scale is given.
    """

    def __init__(
        self,
        mode: Literal["whole", "slide"] = "whole",
        window: tuple[PositiveInt, PositiveInt] = (512, 512),
        stride: tuple[PositiveInt, PositiveInt] = (341, 341),
        scales: Annotated[Sequence[Positive], MinLen(1)] = (1.0,),
        flip: bool = False,
    ) -> None:
        if len(window) != 2 or len(stride) != 2 or any(s > w for s, w in zip(stride, window, strict=True)):
            raise ValueError(
                f"inference.stride={list(stride)} and inference.window={list(window)} must be [rows, columns], "
                "and a stride above its window leaves pixels without a score; lower the stride."
            )
        if not scales:
            raise ValueError("inference.scales=[] leaves nothing to evaluate; [1.0] is the image's own size.")
        self._mode, self._window, self._stride = mode, tuple(window), tuple(stride)
        self._scales, self._flip = tuple(scales), flip

    def __call__(self, net: Net, image_BCHW: Tensor) -> Tensor:
        """Returns the scores (B, K, H, W) of normalised images of one size."""

        def score(image: Tensor) -> Tensor:
            if self._mode == "slide":
                return slide(net, image, self._window, self._stride)
            return whole(net, image)

        if self._scales == (1.0,) and not self._flip:
            return score(image_BCHW)
        return averaged(score, image_BCHW, self._scales, self._flip)

    def sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Returns the rows and columns of what the net gets of an image, each size once.

        Args:
            height: Rows of the image.
            width: Its columns.
        """
        scaled = [_scaled(height, width, scale) for scale in self._scales]
        if self._mode == "slide":
            rows, columns = self._window
            scaled = [(min(h, rows), min(w, columns)) for h, w in scaled]
        return list(dict.fromkeys(scaled))


def _scaled(height: int, width: int, scale: float) -> tuple[int, int]:
    return max(1, round(height * scale)), max(1, round(width * scale))


def _spans(length: int, window: int, stride: int) -> Iterator[slice]:
    """Yields windows that cover 0..length, the last one aligned with the end."""
    start = 0
    while start + window < length:
        yield slice(start, start + window)
        start += stride
    yield slice(max(0, length - window), length)


def _log(probability: Tensor) -> Tensor:
    return probability.clamp_min(torch.finfo(probability.dtype).tiny).log()
