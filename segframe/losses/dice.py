"""Multi-class Dice loss over the whole batch.

Shape suffixes: B batch, K classes, H rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segframe.contracts import LossTerms
from segframe.losses.precision import summation_dtype
from segframe.ranges import NonNegative


class Dice(nn.Module):
    """One minus the soft Dice coefficient, averaged over the classes that the batch's masks hold.

    Milletari et al., "V-Net", 3DV 2016, sec. 3 (arXiv:1606.04797), for many classes and with plain
    sums in the denominator. Deviation: intersection and sums are taken over the whole batch, ranks and
    micro-batches included, before the ratio; a Dice per image or rank is another number.

    Args:
        ignore_index: Label of pixels that are not trained on.
        smooth: Added to numerator and denominator, in pixels; softens the ratio of tiny classes.

    Shape:
        logits_BKHW, target_BHW (int64) -> statistics (3K,): per class the intersection, the sum of
        probabilities and the number of pixels.
    """

    def __init__(self, ignore_index: int, smooth: NonNegative = 0.0) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.smooth = smooth

    def forward(self, logits_BKHW: Tensor, target_BHW: Tensor) -> LossTerms:
        """Returns the terms of the mean over the classes present."""
        dtype = summation_dtype(logits_BKHW.dtype)
        classes_K = torch.arange(logits_BKHW.shape[1], device=target_BHW.device)
        valid_B1HW = (target_BHW != self.ignore_index).unsqueeze(1)
        truth_BKHW = (target_BHW.unsqueeze(1) == classes_K.view(1, -1, 1, 1)) & valid_B1HW
        probability_BKHW = logits_BKHW.to(dtype).softmax(1).where(valid_B1HW, 0.0)
        sums = (
            probability_BKHW.where(truth_BKHW, 0.0).sum((0, 2, 3)),
            probability_BKHW.sum((0, 2, 3)),
            truth_BKHW.sum((0, 2, 3)).to(dtype),
        )
        return LossTerms(torch.cat(sums), self._finish)

    def target_statistics(self, target_BHW: Tensor) -> None:
        """Returns None: the gradient depends on the whole batch's intersections and sums."""
        return None

    def _finish(self, statistics: Tensor) -> Tensor:
        intersection_K, predicted_K, true_K = statistics.chunk(3)
        present_K = true_K > 0
        size_K = (predicted_K + true_K + self.smooth).where(present_K, 1.0)
        loss_K = (1 - (2 * intersection_K + self.smooth) / size_K).where(present_K, 0.0)
        return loss_K.sum() / present_K.sum().clamp(min=1)
