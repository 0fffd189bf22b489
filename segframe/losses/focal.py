"""Focal loss: cross-entropy that fades where the net is already right.

Shape suffixes: B batch, K classes, H rows, W columns.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segframe.contracts import LossTerms
from segframe.losses.balance import counted, pixel_weights, weight_tensor
from segframe.losses.precision import summation_dtype
from segframe.ranges import NonNegative, PositiveInt


class Focal(nn.Module):
    """``(1 - p) ** gamma`` times the cross-entropy, p being the probability of the true class.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, sec. 3.2, eq. 5 (arXiv:1708.02002).
    Deviations: softmax over K classes instead of a sigmoid each, and the mean over labelled pixels
    (weighted by class, if weights are given), where the paper divides by the number of objects.

    Args:
        ignore_index: Label of pixels that are not trained on.
        num_classes: Number of classes K; checks the length of ``class_weights``.
        gamma: Focusing exponent >= 0; 0 is cross-entropy.
        class_weights: The paper's alpha: as in ``CrossEntropy``.

    Shape:
        logits_BKHW, target_BHW (int64) -> statistics (2,): weighted sum of losses, sum of weights.

    Raises:
        ValueError: If ``class_weights`` is still a name, or does not have one number per class.
    """

    class_weight: Tensor | None

    def __init__(
        self,
        ignore_index: int,
        num_classes: PositiveInt,
        gamma: NonNegative = 2.0,
        class_weights: Literal["median_frequency"] | list[NonNegative] | None = None,
    ) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.gamma = gamma
        self.register_buffer("class_weight", weight_tensor(class_weights, num_classes), persistent=False)

    def forward(self, logits_BKHW: Tensor, target_BHW: Tensor) -> LossTerms:
        """Returns the terms of the weighted mean over labelled pixels."""
        dtype = summation_dtype(logits_BKHW.dtype)
        loss_BHW = F.cross_entropy(logits_BKHW.to(dtype), target_BHW, ignore_index=self.ignore_index, reduction="none")
        # Where p is 1 a power below 1 has an infinite slope, and 0 * inf is NaN: the clamp cuts it off.
        miss_BHW = (-torch.expm1(-loss_BHW)).clamp(min=torch.finfo(dtype).tiny)
        loss_BHW = miss_BHW.pow(self.gamma) * loss_BHW
        if self.class_weight is not None:
            loss_BHW = loss_BHW * pixel_weights(target_BHW, self.ignore_index, self.class_weight.to(dtype))
        return LossTerms.ratio(loss_BHW.sum(), counted(target_BHW, self.ignore_index, self.class_weight, dtype))

    def target_statistics(self, target_BHW: Tensor) -> Tensor:
        """Returns (2,): 0 for the predictions' sum, and the sum of weights."""
        count = counted(target_BHW, self.ignore_index, self.class_weight, summation_dtype())
        return torch.stack((torch.zeros_like(count), count))
