"""The XLA devices of this process: which there are, and what Lightning needs to know of them."""

from __future__ import annotations

import importlib.util
import os
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
from pytorch_lightning.accelerators import XLAAccelerator
from pytorch_lightning.plugins.precision import XLAPrecision

from segframe.ranges import PositiveInt

Devices = PositiveInt | Literal["auto"] | list[int]

_CPU_CORES = "CPU_NUM_DEVICES"  # how many devices PJRT makes of a CPU
_TYPES = {"64-true": torch.float64, "32-true": torch.float32, "bf16-mixed": torch.float32, "bf16-true": torch.bfloat16}


def find_cores(devices: Devices) -> int:
    """Starts the runtime and returns how many cores of the TPU a run takes.

    With ``PJRT_DEVICE=CPU`` they are parts of the CPU, as many as are asked for.

    Args:
        devices: What ``trainer.devices`` says: a number, or ``"auto"`` for all.

    Raises:
        ValueError: If torch_xla is not installed, there is no TPU, or it can't be cut like that.
    """
    if importlib.util.find_spec("torch_xla") is None:
        raise ValueError(
            "strategy=xla needs torch_xla, which is not installed here. Its newest release works with torch 2.9 alone "
            "and therefore goes into an environment of its own. `make test-xla` makes one, .venv-xla; by hand it is "
            "python -m venv .venv-xla and .venv-xla/bin/python -m pip install '.[tpu]' in segframe's folder."
        )
    if isinstance(devices, list):
        raise ValueError(
            f"trainer.devices={devices} lists devices by their numbers and strategy=xla takes all cores of a host, or "
            "the first; use trainer.devices=auto or trainer.devices=1."
        )
    if os.environ.get("PJRT_DEVICE") == "CPU" and devices != "auto":
        os.environ.setdefault(_CPU_CORES, str(devices))
    _check_there_is_a_tpu()
    import torch_xla.runtime

    there = int(torch_xla.runtime.global_runtime_device_count())
    if devices not in ("auto", 1, there):
        raise ValueError(
            f"trainer.devices={devices} asks for {devices} XLA devices and {there} {'is' if there == 1 else 'are'} "
            f"there; use trainer.devices={there}, auto for all, or 1."
            + (f" On the CPU {_CPU_CORES} in the environment says how many there are." if _is_cpu() else "")
        )
    return there if devices == "auto" else devices


def _check_there_is_a_tpu() -> None:
    if os.environ.get("PJRT_DEVICE"):
        return
    from torch_xla._internal import tpu

    if not tpu.num_available_chips():
        raise ValueError(
            "strategy=xla finds no TPU. To run the same path on the CPU, as make test-xla does, set PJRT_DEVICE=CPU in "
            "the environment; on a TPU host check that libtpu is installed (segframe[tpu])."
        )


def _is_cpu() -> bool:
    import torch_xla.runtime

    return bool(torch_xla.runtime.device_type() == "CPU")


class AnyXLAAccelerator(XLAAccelerator):
    """Lightning's accelerator for TPUs, also where PJRT's device is the CPU; one process drives all cores."""

    @staticmethod
    def is_available() -> bool:  # type: ignore[override]
        """Returns True: the strategy that brings it along has found the devices."""
        return True

    @staticmethod
    def auto_device_count() -> int:  # type: ignore[override]
        """Returns 1: what Lightning counts are processes."""
        return 1

    @staticmethod
    def parse_devices(devices: Any) -> int:
        """Returns 1."""
        return 1

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        """Returns the device that stands for all cores."""
        return [torch.device("xla", 0)]


class XLANumbers(XLAPrecision):
    """The number formats of ``trainer.precision``, of which Lightning's plugin for TPUs has one.

    Args:
        precision: As ``trainer.precision``.

    Raises:
        ValueError: If it is one for GPUs.
    """

    def __init__(self, precision: str = "32-true") -> None:
        if precision not in _TYPES:
            raise ValueError(
                f"trainer.precision={precision} scales losses for GPUs; with strategy=xla use bf16-mixed, which needs "
                f"no scaling, or one of {', '.join(_TYPES)}."
            )
        super().__init__("32-true")
        self.format = precision

    def convert_module(self, module: torch.nn.Module) -> torch.nn.Module:
        """Gives parameters and buffers the number format."""
        return module.to(_TYPES[self.format])

    def forward_context(self) -> AbstractContextManager[Any]:
        """Returns the context of a step: bf16 arithmetic where it is mixed."""
        if self.format == "bf16-mixed":
            return torch.autocast("xla", dtype=torch.bfloat16)
        return super().forward_context()
