"""`strategy=model_sharded strategy.schedule=none`: the layers of a net on several devices of one process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from tqdm import tqdm

from segframe.contracts import SegmentationOutput
from segframe.parallel.crossing import random_state, set_random_state
from segframe.parallel.cuts import Cuts, cut
from segframe.parallel.seam import Seam
from segframe.ranges import PositiveInt
from segframe.ranks import place


class Placed(Seam, SingleDeviceStrategy):
    """One process, whose net computes on one device after the other; activations move between them.

    No device computes while another does: for a net that is too large for one device, where there is one process.

    Args:
        cuts: Where the net is cut, as ``segframe.parallel.cuts.cut`` takes it.
        accelerator: The kind of device; on the CPU all parts are there.
        devices: How many, a list of device ids, or ``auto`` for all there are.

    Raises:
        ValueError: If there are several processes.
    """

    def __init__(
        self,
        cuts: Cuts = "auto",
        accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = "auto",
        devices: PositiveInt | Literal["auto"] | list[int] = "auto",
    ) -> None:
        if place().world_size > 1:
            raise ValueError(
                f"strategy.schedule=none runs in one process on several devices and {place().world_size} processes "
                "were started; start one, or use strategy.schedule=1f1b."
            )
        self._cuts, self.devices = cuts, _devices(accelerator, devices)
        self._is_placed = False
        super().__init__(device=self.devices[0])

    def parallelize(self, net: nn.Module) -> None:
        """Puts a net's parts onto their devices.

        Raises:
            ValueError: If the net can't be cut so.
        """
        if len(self.devices) == 1:
            return
        divided = cut(net, len(self.devices), self._cuts)
        tqdm.write("\n".join(divided.lines("device")), file=sys.stderr)
        stages: list[Any] = list(getattr(net, "stages"))  # noqa: B009 - of any net
        parts = [stages[divided.part(index)] for index in range(len(self.devices))]
        for part, device in zip(parts, self.devices, strict=True):
            for stage in part:
                if isinstance(stage, nn.Module):
                    stage.to(device)

        def forward(image_BCHW: Tensor) -> SegmentationOutput:
            output = run_placed(parts, self.devices, image_BCHW)
            home = image_BCHW.device
            return SegmentationOutput(output.logits.to(home), tuple(x.to(home) for x in output.auxiliary))

        self._is_placed = True
        setattr(net, "forward", forward)  # noqa: B010 - mypy lets nobody replace a method

    def model_to_device(self) -> None:
        """Moves everything but the net, whose parts are on their devices."""
        module: Any = self.lightning_module
        kept = {id(x) for x in (*module.net.parameters(), *module.net.buffers())} if self._is_placed else set()
        module._apply(lambda x: x if id(x) in kept else x.to(self.root_device))


def run_placed(
    parts: Sequence[Sequence[Callable[..., Any]]], devices: Sequence[torch.device], image_BCHW: Tensor
) -> SegmentationOutput:
    """Runs consecutive stages on several devices, and moves what goes from one to the next.

    Args:
        parts: The stages of each device.
        devices: One for each part.
        image_BCHW: On the first device.

    Returns:
        The net's output, on the last device.
    """
    carried: tuple[Any, ...] = (image_BCHW,)
    for index, (part, device) in enumerate(zip(parts, devices, strict=True)):
        before = devices[max(0, index - 1)]
        if device != before:
            carried = tuple(x.to(device, non_blocking=True) for x in carried)
            if before.type == device.type != "meta":
                # Dropout goes on in the random numbers of one device.
                set_random_state(random_state(before).to(device), device)
        for stage in part:
            result = stage(*carried)
            carried = result if isinstance(result, tuple) else (result,)
    assert isinstance(carried, SegmentationOutput)
    return carried


def _devices(accelerator: str, devices: int | str | list[int]) -> list[torch.device]:
    """Returns the devices of a process."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator == "cpu" or found is None:
        return [torch.device("cpu")] * (
            len(devices) if isinstance(devices, list) else 1 if devices == "auto" else int(devices)
        )
    if devices == "auto":
        devices = torch.accelerator.device_count()
    numbers = devices if isinstance(devices, list) else range(int(devices))
    return [torch.device(found.type, number) for number in numbers]
