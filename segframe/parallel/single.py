"""`strategy=single`: one device."""

from __future__ import annotations

from typing import Literal

import torch
from pytorch_lightning.strategies import SingleDeviceStrategy, Strategy


def single(
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = "auto",
    devices: int | Literal["auto"] | list[int] = "auto",
) -> Strategy:
    """Returns the strategy of one device.

    Args:
        accelerator: The kind of device; ``"auto"`` takes the CPU where there is no other.
        devices: 1, the list of one device id, or ``"auto"`` for the first.

    Raises:
        ValueError: If more than one device is asked for.
    """
    asked = len(devices) if isinstance(devices, list) else 1 if devices == "auto" else devices
    if asked != 1:
        raise ValueError(
            f"strategy=single runs on one device and trainer.devices={devices} asks for {asked}; "
            "use strategy=ddp, or trainer.devices=1."
        )
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator == "cpu" or found is None:
        return SingleDeviceStrategy(device=torch.device("cpu"))
    return SingleDeviceStrategy(device=torch.device(found.type, devices[0] if isinstance(devices, list) else 0))
