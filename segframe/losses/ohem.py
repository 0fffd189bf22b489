"""Cross-entropy over the hard pixels of each image.

Shape suffixes: B batch, K classes, H rows, W columns, N pixels of one image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segframe.contracts import LossTerms
from segframe.losses.precision import summation_dtype
from segframe.ranges import Fraction


class OHEM(nn.Module):
    """Cross-entropy, averaged over the pixels that the net gets wrong or is unsure about.

    Online bootstrapping: Wu et al., "Bridging Category-level and Instance-level Semantic Image
    Segmentation", 2016 (arXiv:1605.06885); hard example mining: Shrivastava et al., CVPR 2016
    (arXiv:1604.03540). A pixel is kept if the probability of its true class is below ``threshold``;
    where that keeps less than ``min_kept`` of an image, its hardest pixels are kept instead.

    Deviation: ``min_kept`` is a share of each image's labelled pixels, where the usual code takes a
    number of pixels of the batch; so a batch can be cut into micro-batches and ranks without changing
    the selection. Pixels as hard as the last one kept are kept too.

    Args:
        ignore_index: Label of pixels that are not trained on.
        threshold: True-class probability in [0, 1] below which a pixel is hard; 1 keeps nearly all.
        min_kept: Least share of an image's labelled pixels that is kept, in [0, 1].

    Shape:
        logits_BKHW, target_BHW (int64) -> statistics (2,): sum of kept losses, number of kept pixels.
    """

    def __init__(self, ignore_index: int, threshold: Fraction = 0.7, min_kept: Fraction = 0.1) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        self.min_kept = min_kept
        self.least_loss = -math.log(threshold) if threshold > 0 else math.inf

    def forward(self, logits_BKHW: Tensor, target_BHW: Tensor) -> LossTerms:
        """Returns the terms of the mean over kept pixels."""
        logits_BKHW = logits_BKHW.to(summation_dtype(logits_BKHW.dtype))
        loss_BHW = F.cross_entropy(logits_BKHW, target_BHW, ignore_index=self.ignore_index, reduction="none")
        kept_BN = self._kept(loss_BHW.detach().flatten(1), (target_BHW != self.ignore_index).flatten(1))
        return LossTerms.ratio(loss_BHW.flatten(1).where(kept_BN, 0.0).sum(), torch.count_nonzero(kept_BN))

    def target_statistics(self, target_BHW: Tensor) -> None:
        """Returns None: which pixels count depends on the predictions."""
        return None

    def _kept(self, loss_BN: Tensor, valid_BN: Tensor) -> Tensor:
        kept_BN = valid_BN & (loss_BN > self.least_loss)
        # One transfer for the batch; only images with too few hard pixels pay for a selection.
        hard, valid = torch.stack((kept_BN.sum(1), valid_BN.sum(1))).tolist()
        for image, (num_hard, num_valid) in enumerate(zip(hard, valid, strict=True)):
            least = math.ceil(self.min_kept * num_valid)
            if num_hard < least:
                loss_N = loss_BN[image].masked_fill(~valid_BN[image], -math.inf)
                limit = loss_N.kthvalue(loss_N.numel() - least + 1).values
                kept_BN[image] = valid_BN[image] & (loss_N >= limit)
        return kept_BN
