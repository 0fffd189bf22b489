"""Whether a loss can be taken of parts of images.

Shape suffixes: B batch, K classes, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from segframe.contracts import IGNORE_INDEX

_ROWS, _COLUMNS = 12, 7
_SHARPNESS = (1.0, 8.0)  # a net that knows little, and one that is sure of nearly every pixel
_TOLERANCE = 1e-9  # rounding in fp64; losses that sum in fp32 are looked at less closely
_LOOSE = 1e-4


def check_loss(loss: Callable[[Tensor, Tensor], Any], num_classes: int, num_ranks: int) -> None:
    """Checks that a loss's statistics of an image are the sums of those of its parts.

    It is tried on made-up predictions: a loss that ranks the pixels of an image, or keeps a share of them, gives
    others.

    Args:
        loss: Maps logits (B, K, H, W) and masks (B, H, W) to terms.
        num_classes: K.
        num_ranks: Parts that an image is cut into.

    Raises:
        ValueError: If they are not.
    """
    generator = torch.Generator().manual_seed(0)
    target_BHW = torch.randint(num_classes, (2, _ROWS * num_ranks, _COLUMNS), generator=generator)
    logits_BKHW = torch.rand(2, num_classes, _ROWS * num_ranks, _COLUMNS, dtype=torch.float64, generator=generator)
    logits_BKHW.scatter_add_(1, target_BHW[:, None], torch.ones_like(logits_BKHW[:, :1]))
    target_BHW[0, :_ROWS] = IGNORE_INDEX
    for sharpness in _SHARPNESS:
        whole, parts = _statistics(loss, sharpness * logits_BKHW, target_BHW, num_ranks)
        tolerance = _TOLERANCE if whole.dtype == torch.float64 else _LOOSE
        if not torch.allclose(whole, parts, rtol=tolerance, atol=tolerance):
            raise ValueError(
                f"{_name(loss)} looks at whole images (it ranks or selects their pixels), and here each rank has some "
                "rows of them alone. Take a loss that is a sum over pixels, such as loss=cross_entropy, dice or focal, "
                "or strategy=ddp or fsdp."
            )


def _statistics(loss: Any, logits_BKHW: Tensor, target_BHW: Tensor, num_parts: int) -> tuple[Tensor, Tensor]:
    """Returns the statistics of whole images, and the sum of those of their parts."""
    with torch.no_grad():
        whole: Tensor = loss(logits_BKHW, target_BHW).statistics
        cut = zip(logits_BKHW.chunk(num_parts, 2), target_BHW.chunk(num_parts, 1), strict=True)
        parts = torch.stack([loss(x, y).statistics for x, y in cut]).sum(0)
    return whole, parts


def _name(loss: Any) -> str:
    terms = getattr(loss, "losses", None)
    return f"{type(loss).__name__} of {', '.join(terms)}" if terms else type(loss).__name__
