"""Class weights: given as numbers, or computed from the training masks.

Shape suffixes: B batch, K classes, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import torch
from torch import Tensor


def median_frequency_weights(pixel_counts: Sequence[int], image_pixel_counts: Sequence[int]) -> list[float]:
    """Returns one weight per class: the median of all class frequencies divided by the class's own.

    A class's frequency is its pixels divided by the pixels of the images that hold it. Eigen and
    Fergus, "Predicting Depth, Surface Normals and Semantic Labels with a Common Multi-Scale
    Convolutional Architecture", ICCV 2015, sec. 6.3.2 (arXiv:1411.4734); used by SegNet.
    Choice where the paper is silent: a class that no mask holds stays out of the median and gets
    the neutral weight 1, so that its pixels still count in a validation loss.

    Args:
        pixel_counts: Pixels per class over all training masks.
        image_pixel_counts: Per class, the labelled pixels of the images that hold the class.

    Raises:
        ValueError: If the lengths differ, or no class has a pixel.

    >>> median_frequency_weights([800, 200, 50, 0], [1000, 1000, 500, 0])
    [0.25, 1.0, 2.0, 1.0]
    """
    if len(pixel_counts) != len(image_pixel_counts):
        raise ValueError(
            f"pixel_counts has {len(pixel_counts)} classes and image_pixel_counts {len(image_pixel_counts)}; "
            "pass both for the same classes."
        )
    frequencies = [n / total if n else 0.0 for n, total in zip(pixel_counts, image_pixel_counts, strict=True)]
    if not any(frequencies):
        raise ValueError(
            "median-frequency weights need a labelled pixel, but the training masks hold none; "
            "check the masks and ignore_index, or set class_weights to null."
        )
    middle = median(f for f in frequencies if f)
    return [middle / f if f else 1.0 for f in frequencies]


def weight_tensor(class_weights: str | Sequence[float] | None, num_classes: int) -> Tensor | None:
    """Returns the weights as a tensor (K,), or None where all classes weigh the same.

    Raises:
        ValueError: If a name arrives here instead of the numbers computed for it, if the number of
            weights is not ``num_classes``, or if no weight is positive.
    """
    if class_weights is None:
        return None
    if isinstance(class_weights, str):
        raise ValueError(
            f"class_weights={class_weights!r} is a rule, not numbers: compute them from the training masks "
            "with segframe.losses.balance.median_frequency_weights (segframe.build does), then pass the list."
        )
    if len(class_weights) != num_classes:
        raise ValueError(
            f"class_weights has {len(class_weights)} numbers for num_classes={num_classes}; give one per class."
        )
    if min(class_weights) < 0 or max(class_weights) <= 0:
        raise ValueError(f"class_weights={list(class_weights)} must be >= 0, and one of them above 0.")
    return torch.tensor([float(weight) for weight in class_weights])


def counted(target_BHW: Tensor, ignore_index: int, weight_K: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Returns the number of labelled pixels, or the sum of their class weights, as a scalar of ``dtype``."""
    if weight_K is None:
        return torch.count_nonzero(target_BHW != ignore_index).to(dtype)
    return pixel_weights(target_BHW, ignore_index, weight_K.to(dtype)).sum()


def pixel_weights(target_BHW: Tensor, ignore_index: int, weight_K: Tensor) -> Tensor:
    """Returns (B, H, W): the weight of each pixel's class, 0 where the pixel is ignored."""
    ignored_BHW = target_BHW == ignore_index
    return weight_K[target_BHW.masked_fill(ignored_BHW, 0)].masked_fill(ignored_BHW, 0.0)
