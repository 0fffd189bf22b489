"""Max pooling that remembers where each maximum was, and its inverse.

Shape suffixes: B batch, C channels, H rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function


def max_pool_with_mask(x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Pools 2x2 windows and marks the first maximum of each, in reading order.

    Equal to ``F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)``, with a mask for the indices: it
    takes an eighth of their memory per value, means the same in a slice of the map, and exports. Tensor-like
    arguments may override it and ``max_unpool`` (``torch.overrides``).

    Returns:
        The pooled map (B, C, ceil(H / 2), ceil(W / 2)) and a bool mask (B, C, H, W).
    """
    if has_torch_function((x_BCHW,)):
        overridden: tuple[Tensor, Tensor] = handle_torch_function(max_pool_with_mask, (x_BCHW,), x_BCHW)
        return overridden
    pooled = F.max_pool2d(x_BCHW, 2, ceil_mode=True)
    with torch.no_grad():
        cells = _windows(x_BCHW)
        hit = cells == pooled[..., None, :, None]
        first, second, third, fourth = (hit[..., i, :, j] for i in (0, 1) for j in (0, 1))
        fourth.logical_and_(~(first | second | third))
        third.logical_and_(~(first | second))
        second.logical_and_(~first)
    height, width = x_BCHW.shape[-2:]
    return pooled, hit.flatten(4, 5).flatten(2, 3)[..., :height, :width]


def max_unpool(x_BCHW: Tensor, mask_BCHW: Tensor) -> Tensor:
    """Puts every value back where the mask marks its window, with zeros around it.

    Args:
        x_BCHW: (B, C, ceil(H / 2), ceil(W / 2)).
        mask_BCHW: (B, C, H, W), bool, of ``max_pool_with_mask``.

    Returns:
        (B, C, H, W), equal to ``F.max_unpool2d`` with the indices.
    """
    if has_torch_function((x_BCHW, mask_BCHW)):
        overridden: Tensor = handle_torch_function(max_unpool, (x_BCHW, mask_BCHW), x_BCHW, mask_BCHW)
        return overridden
    height, width = mask_BCHW.shape[-2:]
    # nearest upsampling, because its backward pass is one kernel: summing 2x2 windows takes up to 7 times as long
    spread = F.interpolate(x_BCHW, size=(2 * x_BCHW.shape[-2], 2 * x_BCHW.shape[-1]), mode="nearest")
    return torch.where(mask_BCHW, spread[..., :height, :width], x_BCHW.new_zeros(()))


def _windows(x_BCHW: Tensor) -> Tensor:
    """(B, C, h, 2, w, 2): the map as 2x2 windows, filled up with -inf where its size is odd."""
    batch, channels, height, width = x_BCHW.shape
    if height % 2 or width % 2:
        x_BCHW = F.pad(x_BCHW, (0, width % 2, 0, height % 2), value=float("-inf"))
    return x_BCHW.view(batch, channels, (height + 1) // 2, 2, (width + 1) // 2, 2)
