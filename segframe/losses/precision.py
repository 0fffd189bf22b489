"""The number format that losses are summed in."""

from __future__ import annotations

import torch


def summation_dtype(dtype: torch.dtype | None = None) -> torch.dtype:
    """Returns ``dtype`` (the default dtype if None), but float32 at least.

    bfloat16 counts 256 + 1 = 256, so no sum over pixels may be kept in a half format.

    >>> summation_dtype(torch.bfloat16), summation_dtype(torch.float64)
    (torch.float32, torch.float64)
    """
    return torch.promote_types(dtype or torch.get_default_dtype(), torch.float32)
