"""`strategy=auto`: whatever suits the number of devices."""

from __future__ import annotations

from typing import Literal

from pytorch_lightning.strategies import Strategy

from segframe.parallel.ddp import DDP
from segframe.parallel.single import Single
from segframe.ranges import PositiveInt
from segframe.ranks import place


def auto(
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = "auto",
    devices: PositiveInt | Literal["auto"] | list[int] = "auto",
) -> Strategy:
    """Returns one device alone, several with DDP.

    Args:
        accelerator: The kind of device.
        devices: What one process takes.
    """
    return DDP() if place().world_size > 1 else Single(accelerator, devices)
