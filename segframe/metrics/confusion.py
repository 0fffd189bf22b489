"""The confusion matrix that every region metric is computed from.

Shape suffixes: B batch, K classes, H rows, W columns.
"""

from __future__ import annotations

import numpy as np
import torch
import torchmetrics
from torch import Tensor

_BYTE = 256  # values of a uint8
_MOST_CLASSES = 180  # (180 + 1) * 180 bins fit an int16, which torch.bincount reads fastest


class ConfusionMatrix(torchmetrics.Metric):
    """Sums int64 pixel counts over batches and ranks; rows are the truth, columns the prediction.

    Args:
        num_classes: Number of classes K.
        ignore_index: Label of pixels that are not counted.

    Raises:
        ValueError: If ``num_classes`` < 1.
    """

    is_differentiable = False
    full_state_update = False
    matrix: Tensor

    def __init__(self, num_classes: int, ignore_index: int) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes={num_classes} must be at least 1; check dataset.num_classes.")
        super().__init__()
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.add_state("matrix", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction_BHW: Tensor, target_BHW: Tensor) -> None:
        """Adds the pixels of a batch.

        Raises:
            ValueError: As ``confusion_matrix`` does.
        """
        counts_KK = confusion_matrix(prediction_BHW, target_BHW, self.num_classes, self.ignore_index)
        self.matrix = self.matrix + counts_KK.to(self.matrix.device)

    def compute(self) -> Tensor:
        """Returns the matrix (K, K), int64."""
        return self.matrix


def confusion_matrix(prediction: Tensor, target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Counts pixels by (truth, prediction).

    Args:
        prediction: Class ids, any integer dtype and shape.
        target: Class ids and ``ignore_index``, any integer dtype, the shape of ``prediction``.
        num_classes: Number of classes K.
        ignore_index: Label of pixels that are not counted, whatever their prediction.

    Returns:
        int64 (K, K): rows are the truth, columns the prediction.

    Raises:
        ValueError: If the shapes differ, or a counted label or prediction is outside 0..K-1.

    >>> confusion_matrix(torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 0, 255]), 2, 255).tolist()
    [[1, 1], [0, 1]]
    """
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape; "
            "resize the logits to the mask before the argmax."
        )
    if prediction.device.type == target.device.type == "cpu" and num_classes <= _MOST_CLASSES:
        matrix = _count_bytes(prediction, target, num_classes, ignore_index)
        if matrix is not None:
            return matrix
    return _count(prediction, target, num_classes, ignore_index)


def _count_bytes(prediction: Tensor, target: Tensor, num_classes: int, ignore_index: int) -> Tensor | None:
    """Counts values that fit a byte on the CPU, or returns None where a closer look is needed."""
    labels, guesses = _bytes(target), _bytes(prediction)
    if labels is None or guesses is None or guesses.max() >= num_classes:
        return None
    # Labels from K on share a spare row, which may hold the ignored pixels and nothing else.
    index = labels.clamp(max=num_classes).to(torch.int16).mul_(num_classes).add_(guesses)
    counts = _histogram(index, (num_classes + 1) * num_classes).view(num_classes + 1, num_classes)
    # NumPy, because torch counts booleans ten times slower.
    spare = num_classes <= ignore_index < _BYTE
    ignored = np.count_nonzero(labels.numpy() == ignore_index) if spare else 0
    if counts[num_classes].sum() != ignored:
        return None
    if 0 <= ignore_index < num_classes:
        counts[ignore_index] = 0
    return counts[:num_classes].clone()


def _bytes(x: Tensor) -> Tensor | None:
    """Returns the values as flat uint8, or None if one of them doesn't fit or there are none."""
    if x.numel() == 0:
        return None
    # The bitwise or of integers is in 0..255 if and only if each of them is: one pass, half of min and max.
    if x.dtype != torch.uint8 and not 0 <= np.bitwise_or.reduce(x.numpy(force=True), axis=None) < _BYTE:
        return None
    return x.to(torch.uint8).flatten()


def _histogram(index: Tensor, bins: int) -> Tensor:
    """Counts int16 values; many at a time in pairs, which halves the slow part, the loop over bins."""
    half = index.numel() // 2
    if bins * bins * 4 > half:
        return torch.bincount(index, minlength=bins)
    pairs = index[:half].to(torch.int32).mul_(bins).add_(index[half : 2 * half])
    counts = torch.bincount(pairs, minlength=bins * bins).view(bins, bins)
    return counts.sum(0) + counts.sum(1) + torch.bincount(index[2 * half :], minlength=bins)


def _count(prediction: Tensor, target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    valid = target != ignore_index
    target, prediction = target[valid].long(), prediction[valid].long()
    if torch.stack([(x < 0) | (x >= num_classes) for x in (target, prediction)]).any():
        raise _out_of_range(prediction, target, num_classes, ignore_index)
    counts = torch.bincount(target * num_classes + prediction, minlength=num_classes**2)
    return counts.view(num_classes, num_classes)


def _out_of_range(prediction: Tensor, target: Tensor, num_classes: int, ignore_index: int) -> ValueError:
    found = []
    for what, x in (("labels", target), ("predictions", prediction)):
        wrong = sorted(set(x[(x < 0) | (x >= num_classes)].tolist()))
        if wrong:
            found.append(f"{what} {', '.join(map(str, wrong[:8]))}{', ...' if len(wrong) > 8 else ''}")
    return ValueError(
        f"{' and '.join(found)} outside 0..{num_classes - 1} (ignore_index={ignore_index}); "
        "check num_classes and the masks' label mapping."
    )
