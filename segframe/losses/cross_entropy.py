"""Cross-entropy with class weights and label smoothing.

Shape suffixes: B batch, K classes, H rows, W columns.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segframe.contracts import LossTerms
from segframe.losses.balance import counted, weight_tensor
from segframe.losses.precision import summation_dtype
from segframe.ranges import BelowOne, NonNegative, PositiveInt


class CrossEntropy(nn.Module):
    """Softmax cross-entropy, averaged over labelled pixels with their class weights.

    The value is that of ``torch.nn.CrossEntropyLoss(weight, ignore_index, label_smoothing)``, but 0
    where torch gives NaN: when every pixel is ignored.

    Args:
        ignore_index: Label of pixels that are not trained on.
        num_classes: Number of classes K; checks the length of ``class_weights``.
        class_weights: One weight >= 0 per class; None weighs all the same. ``"median_frequency"`` stands
            for numbers from the training masks, which are filled in before this class is called.
        label_smoothing: Share of the target that is spread evenly over all classes, in [0, 1).

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
        class_weights: Literal["median_frequency"] | list[NonNegative] | None = None,
        label_smoothing: BelowOne = 0.0,
    ) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        self.register_buffer("class_weight", weight_tensor(class_weights, num_classes), persistent=False)

    def forward(self, logits_BKHW: Tensor, target_BHW: Tensor) -> LossTerms:
        """Returns the terms of the weighted mean over labelled pixels."""
        dtype = summation_dtype(logits_BKHW.dtype)
        total = F.cross_entropy(
            logits_BKHW.to(dtype),
            target_BHW,
            weight=None if self.class_weight is None else self.class_weight.to(dtype),
            ignore_index=self.ignore_index,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        return LossTerms.ratio(total, counted(target_BHW, self.ignore_index, self.class_weight, dtype))

    def target_statistics(self, target_BHW: Tensor) -> Tensor:
        """Returns (2,): 0 for the predictions' sum, and the sum of weights."""
        count = counted(target_BHW, self.ignore_index, self.class_weight, summation_dtype())
        return torch.stack((torch.zeros_like(count), count))
