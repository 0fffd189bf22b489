"""Lovasz-softmax: a convex surrogate of one minus the intersection over union.

Shape suffixes: B batch, K classes, H rows, W columns; of one image: N labelled pixels,
P classes present.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segframe.contracts import LossTerms
from segframe.losses.precision import summation_dtype


class LovaszSoftmax(nn.Module):
    """Lovasz-softmax per image, over the classes that the image's mask holds; the mean over images.

    Berman et al., "The Lovasz-Softmax loss", CVPR 2018, sec. 3.2 and algorithm 1 (arXiv:1705.08790).
    Per image rather than per batch, so that the loss of a batch is a sum over its images.

    Args:
        ignore_index: Label of pixels that are not trained on.

    Shape:
        logits_BKHW, target_BHW (int64) -> statistics (2,): sum of the images' losses, number of images
        with a labelled pixel.
    """

    def __init__(self, ignore_index: int) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits_BKHW: Tensor, target_BHW: Tensor) -> LossTerms:
        """Returns the terms of the mean over images with a labelled pixel."""
        probability_BKHW = logits_BKHW.to(summation_dtype(logits_BKHW.dtype)).softmax(1)
        losses = [self._image(probability_BKHW[image], target_BHW[image]) for image in range(target_BHW.shape[0])]
        return LossTerms.ratio(torch.stack(losses).sum(), self._num_images(target_BHW))

    def target_statistics(self, target_BHW: Tensor) -> Tensor:
        """Returns (2,): 0 for the predictions' sum, and the number of images with a labelled pixel."""
        count = self._num_images(target_BHW).to(summation_dtype())
        return torch.stack((torch.zeros_like(count), count))

    def _num_images(self, target_BHW: Tensor) -> Tensor:
        return (target_BHW != self.ignore_index).flatten(1).any(1).sum()

    def _image(self, probability_KHW: Tensor, target_HW: Tensor) -> Tensor:
        valid_HW = target_HW != self.ignore_index
        target_N = target_HW[valid_HW]
        present_P: Tensor = target_N.unique()  # type: ignore[no-untyped-call]
        truth_PN = target_N == present_P.unsqueeze(1)
        # An ignored image keeps its place in the graph, with a gradient of zeros.
        probability_PN = probability_KHW[:, valid_HW][present_P]
        error_PN, order_PN = (truth_PN.to(probability_PN.dtype) - probability_PN).abs().sort(1, descending=True)
        loss_P = (error_PN * _slope(truth_PN.gather(1, order_PN), error_PN.dtype)).sum(1)
        return loss_P.sum() / max(present_P.numel(), 1)


def _slope(truth_PN: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns how much each further wrong pixel adds to the Jaccard loss, hardest first (algorithm 1)."""
    hits_PN = truth_PN.cumsum(1, dtype=torch.int64)  # by itself XLA's is of bool
    size_P1 = truth_PN.sum(1, keepdim=True)
    rank_N = torch.arange(1, truth_PN.shape[1] + 1, device=truth_PN.device)
    jaccard_PN = 1 - (size_P1 - hits_PN).to(dtype) / (size_P1 + rank_N - hits_PN).to(dtype)
    slope_PN: Tensor = jaccard_PN.diff(dim=1, prepend=torch.zeros_like(size_P1, dtype=dtype))
    return slope_PN
