"""Region metrics, each a ratio of sums of one confusion matrix.

Shape suffixes: K classes; ``...`` any leading dimensions, for instance one matrix per image.
Rows are the truth, columns the prediction. All results are float64 on the CPU.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Absent = Literal["drop", "zero", "one"]
"""What a class counts as whose ratio is 0 / 0: nothing (NaN, left out of means), 0 or 1."""


def iou(matrix: Tensor, absent: Absent = "drop") -> Tensor:
    """Returns the intersection over union per class, (..., K).

    Args:
        matrix: (..., K, K) pixel counts.
        absent: What a class counts as that occurs neither in the truth nor in the prediction.
    """
    hits, true, predicted = _sums(matrix)
    return _ratio(hits, true + predicted - hits, absent)


def dice(matrix: Tensor, absent: Absent = "drop") -> Tensor:
    """Returns the Dice coefficient (F1 score) per class, (..., K).

    Args:
        matrix: (..., K, K) pixel counts.
        absent: What a class counts as that occurs neither in the truth nor in the prediction.
    """
    hits, true, predicted = _sums(matrix)
    return _ratio(2 * hits, true + predicted, absent)


def class_accuracy(matrix: Tensor, absent: Absent = "drop") -> Tensor:
    """Returns the share of each class's true pixels that are predicted as such (recall), (..., K).

    Args:
        matrix: (..., K, K) pixel counts.
        absent: What a class counts as that does not occur in the truth, predicted or not.
    """
    hits, true, _ = _sums(matrix)
    return _ratio(hits, true, absent)


def mean(scores: Tensor) -> Tensor:
    """Returns the mean over classes without the dropped ones (NaN): (..., K) -> (...).

    NaN where all are dropped.
    """
    return scores.nanmean(-1)


def mean_iou(matrix: Tensor, absent: Absent = "drop") -> Tensor:
    """Returns the mean of ``iou`` over classes, (...); NaN for an empty matrix under ``drop``."""
    return mean(iou(matrix, absent))


def mean_accuracy(matrix: Tensor, absent: Absent = "drop") -> Tensor:
    """Returns the mean of ``class_accuracy`` over classes, (...); NaN for an empty matrix under ``drop``."""
    return mean(class_accuracy(matrix, absent))


def mean_dice(matrix: Tensor, absent: Absent = "drop") -> Tensor:
    """Returns the mean of ``dice`` over classes, (...); NaN for an empty matrix under ``drop``."""
    return mean(dice(matrix, absent))


def pixel_accuracy(matrix: Tensor) -> Tensor:
    """Returns the share of counted pixels that are right, (...); NaN for an empty matrix."""
    hits, true, _ = _sums(matrix)
    return hits.sum(-1) / true.sum(-1)


def frequency_weighted_iou(matrix: Tensor) -> Tensor:
    """Returns the IoU weighted by each class's share of true pixels, (...); NaN for an empty matrix.

    Long et al., "Fully Convolutional Networks", CVPR 2015, sec. 5 (arXiv:1411.4038). A class that is
    not in the truth has weight 0, so no rule for absent classes is needed.
    """
    _, true, _ = _sums(matrix)
    return (true * iou(matrix, "zero")).sum(-1) / true.sum(-1)


def per_class(matrix: Tensor, absent: Absent = "drop") -> dict[str, Tensor]:
    """Returns ``iou``, ``accuracy`` and ``dice``, each (..., K); NaN marks a dropped class."""
    return {
        "iou": iou(matrix, absent),
        "accuracy": class_accuracy(matrix, absent),
        "dice": dice(matrix, absent),
    }


def summary(matrix: Tensor, absent: Absent = "drop") -> dict[str, float]:
    """Returns the scalar metrics of one matrix (K, K) in [0, 1], by the last part of their log keys.

    Only a matrix without any pixel gives NaN.

    >>> summary(torch.tensor([[3, 1], [0, 4]]))["miou"]
    0.775
    """
    return {
        "miou": mean_iou(matrix, absent).item(),
        "pixel_accuracy": pixel_accuracy(matrix).item(),
        "mean_accuracy": mean_accuracy(matrix, absent).item(),
        "dice": mean_dice(matrix, absent).item(),
        "fwiou": frequency_weighted_iou(matrix).item(),
    }


def _sums(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns true positives, true pixels and predicted pixels, each (..., K)."""
    matrix = matrix.cpu().double()
    return matrix.diagonal(dim1=-2, dim2=-1), matrix.sum(-1), matrix.sum(-2)


def _ratio(part: Tensor, whole: Tensor, absent: Absent) -> Tensor:
    value = {"drop": torch.nan, "zero": 0.0, "one": 1.0}[absent]
    return torch.where(whole > 0, part / whole, value)
