"""`strategy=single`: one device."""

from __future__ import annotations

from typing import Literal

import torch
from pytorch_lightning.strategies import SingleDeviceStrategy

from segframe.parallel.seam import Seam
from segframe.ranges import PositiveInt
from segframe.ranks import place


class Single(Seam, SingleDeviceStrategy):
    """One process on one device, which costs nothing over a bare loop.

    Args:
        accelerator: The kind of device; ``"auto"`` takes the CPU where there is no other.
        devices: 1, the list of one device id, or ``"auto"`` for the first.
        ranks: Processes that it can have.

    Raises:
        ValueError: If more than one device is asked for, or there are several processes.
    """

    def __init__(
        self,
        accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = "auto",
        devices: PositiveInt | Literal["auto"] | list[int] = "auto",
        ranks: Literal[1] = 1,
    ) -> None:
        asked = len(devices) if isinstance(devices, list) else 1 if devices == "auto" else devices
        if asked != ranks:
            raise ValueError(
                f"strategy=single runs on one device and trainer.devices={devices} asks for {asked}; "
                "use strategy=ddp, or trainer.devices=1."
            )
        if place().world_size != ranks:
            raise ValueError(
                f"strategy=single runs in one process and {place().world_size} were started; use strategy=ddp, or "
                "start one."
            )
        super().__init__(device=_device(accelerator, devices))


def _device(accelerator: str, devices: int | str | list[int]) -> torch.device:
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator == "cpu" or found is None:
        return torch.device("cpu")
    return torch.device(found.type, devices[0] if isinstance(devices, list) else 0)
