"""The confusion matrix that every region metric is computed from.

Shape suffixes: B batch, K classes, H rows, W columns.
"""

from __future__ import annotations

import numpy as np
import torch
import torchmetrics
from torch import Tensor

_BYTE = 256  # values of a uint8


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
    if num_classes < _BYTE and _is_bytes(prediction) and _is_bytes(target):
        return _count_bytes(prediction, target, num_classes, ignore_index)
    return _count(prediction, target, num_classes, ignore_index)


def _is_bytes(x: Tensor) -> bool:
    if x.device.type != "cpu" or x.numel() == 0:
        return False
    if x.dtype == torch.uint8:
        return True
    low, high = torch.aminmax(x)
    return low.item() >= 0 and high.item() < _BYTE


def _count_bytes(prediction: Tensor, target: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    # A bin for each pair of bytes: values out of range land in bins of their own, at no cost per pixel.
    index = target.numpy(force=True).astype(np.uint16).ravel()
    index <<= 8
    index |= prediction.numpy(force=True).astype(np.uint8).ravel()
    counts = torch.from_numpy(np.bincount(index, minlength=_BYTE * _BYTE)).view(_BYTE, _BYTE)
    if 0 <= ignore_index < _BYTE:
        counts[ignore_index] = 0
    matrix = counts[:num_classes, :num_classes].clone()
    if matrix.sum() != counts.sum():
        labels, predictions = counts.nonzero().unbind(1)
        raise _out_of_range(predictions, labels, num_classes, ignore_index)
    return matrix


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
