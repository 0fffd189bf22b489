"""Measures one rank of a training run from within: time, memory, traffic."""

from __future__ import annotations

import os
import resource
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback

from segframe.cost import clocks, sockets
from segframe.cost.activations import SavedTensors
from segframe.cost.in_flight import InFlight
from segframe.cost.length import PROFILED, WARM_UP
from segframe.cost.memory import held
from segframe.cost.statistics_bytes import statistics_bytes
from segframe.runfolder import write_json


class Measurement(Callback):
    """Measures the steps of a run and writes what it found as JSON.

    Time and traffic are measured with nothing else going on; the hooks that count activations, and the profiler,
    have steps of their own behind that.

    Args:
        timed: Steps whose time and traffic are measured.
        folder: Where ``rank-N.json`` goes, and rank 0 notes its step in ``progress``.
    """

    def __init__(self, timed: int, folder: Path) -> None:
        self._memory_step = WARM_UP + timed
        self._profiled = (self._memory_step + 1, self._memory_step + PROFILED)
        self._folder = folder
        self._steps: list[clocks.Clocks] = []
        self._result: dict[str, Any] = {"not_counted": sockets.why_not(), "sent": None}
        self._before = sockets.Sent(0, 0)
        self._saved: SavedTensors | None = None
        self._in_flight: InFlight | None = None
        self._started = clocks.read()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Starts what the step is measured with, its clocks last."""
        step = trainer.global_step
        if step == WARM_UP:
            if pl_module.device.type == "cuda":
                self._result["not_counted"] = "between GPUs bytes don't go through the kernel's connections"
            self._before = self._sent()
        if step == self._memory_step:
            self._saved = SavedTensors(pl_module.net).__enter__()
        if step == self._profiled[0]:
            self._in_flight = InFlight(pl_module.device.type == "cuda")
            self._in_flight.start()
        _synchronize(pl_module.device)
        self._started = clocks.read()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stops the clocks first, then the rest."""
        _synchronize(pl_module.device)
        self._steps.append(clocks.read() - self._started)
        step = trainer.global_step - 1
        if step == self._memory_step - 1 and self._result["not_counted"] is None:
            self._result["sent"] = (self._sent() - self._before)._asdict()
        if step == self._memory_step:
            self._count_memory(trainer, pl_module)
        if step == self._profiled[1]:
            assert self._in_flight is not None
            profiled = sum(clock.wall for clock in self._steps[self._profiled[0] :])
            self._result["in_flight_share"] = min(1.0, self._in_flight.stop() / profiled)
        if trainer.is_global_zero:
            (self._folder / "progress").write_text(str(step + 1), encoding="utf-8")

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Writes the result of this rank."""
        timed = self._steps[WARM_UP : self._memory_step]
        walls = [clock.wall for clock in timed]
        strategy: Any = trainer.strategy
        on_cuda = pl_module.device.type == "cuda"
        result = self._result | {
            "rank": trainer.global_rank,
            "timed_steps": len(walls),
            "step_s": walls,
            "median_step_s": statistics.median(walls),
            # The thread that trains is asleep while it waits for other ranks; with a GPU it waits for that as well.
            "waited_share": None if on_cuda else clocks.share(timed, "asleep"),
            "moving_share": None if on_cuda else clocks.share(timed, "beside"),
            "parameter_share": strategy.parameter_share,
            "minimum_bytes": strategy.minimum_bytes_sent(pl_module.net) if trainer.world_size > 1 else 0,
            "batch_norm_bytes": statistics_bytes(pl_module.net, trainer.num_micro_batches),
            "peak_resident_bytes": _peak_resident_bytes(),
        }
        write_json(self._folder / f"rank-{trainer.global_rank}.json", result)

    def _count_memory(self, trainer: Any, pl_module: Any) -> None:
        assert self._saved is not None
        self._saved.__exit__(None, None, None)
        self._result |= held(pl_module.net, trainer.optimizers[0])._asdict()
        self._result["activations"] = self._saved.peak_bytes
        self._result["gathered"] = self._saved.peak_gathered_bytes
        on_cuda = pl_module.device.type == "cuda"
        self._result["cuda_peak_bytes"] = torch.cuda.max_memory_allocated() if on_cuda else None

    @staticmethod
    def _sent() -> sockets.Sent:
        if sockets.why_not() is not None:
            return sockets.Sent(0, 0)
        return sockets.sent(int(os.environ.get("MASTER_PORT", "0")))


def _synchronize(device: torch.device) -> None:
    """Waits for a device, so that clocks mean something."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_resident_bytes() -> int:
    """Returns the most memory that this process has had of the system, imports included."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
