"""`strategy=single`: one device."""

from __future__ import annotations

import torch
from pytorch_lightning.strategies import SingleDeviceStrategy, Strategy


def single() -> Strategy:
    """Returns the strategy of the first accelerator, or of the CPU where there is none."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return SingleDeviceStrategy(
        device=torch.device("cpu") if accelerator is None else torch.device(accelerator.type, 0)
    )
