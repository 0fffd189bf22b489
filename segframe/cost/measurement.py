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
from torch import nn

from segframe.cost import clocks, sockets
from segframe.cost.activations import SavedTensors
from segframe.cost.halo import Exchanged, exchanged
from segframe.cost.in_flight import InFlight
from segframe.cost.length import length_of
from segframe.cost.memory import held
from segframe.cost.statistics_bytes import statistics_bytes
from segframe.runfolder import write_json


class Measurement(Callback):
    """Measures the steps of a run and writes what it found as JSON.

    Time and traffic are measured with nothing else going on; the hooks that count activations, and the profiler,
    have steps of their own behind that.

    Args:
        timed: Steps whose time and traffic are measured; with 0 memory and traffic are counted alone.
        folder: Where ``rank-N.json`` goes, and rank 0 notes its step in ``progress``.
        twin: The whole net on the device ``meta``, which tells what ranks must exchange that share an image's rows.
    """

    def __init__(self, timed: int, folder: Path, twin: nn.Module) -> None:
        self._length = length_of(timed)
        self._folder, self._twin = folder, twin
        self._halo = Exchanged(0, 0)
        self._steps: list[clocks.Clocks] = []
        self._result: dict[str, Any] = {"not_counted": sockets.why_not(), "sent": None, "in_flight_share": None}
        self._before = sockets.Sent(0, 0)
        self._saved: SavedTensors | None = None
        self._in_flight: InFlight | None = None
        self._started = clocks.read()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Starts what the step is measured with, its clocks last."""
        step, length = trainer.global_step, self._length
        if step == length.counted[0]:
            self._halo = self._exchanged(trainer, pl_module, batch)
            if pl_module.device.type == "cuda":
                self._result["not_counted"] = "between GPUs bytes don't go through the kernel's connections"
            self._before = self._sent()
        if step == length.memory_step:
            self._saved = SavedTensors(pl_module.net).__enter__()
        if step == length.memory_step + 1:
            self._in_flight = InFlight(pl_module.device.type == "cuda")
            self._in_flight.start()
        _synchronize(pl_module.device)
        self._started = clocks.read()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stops the clocks first, then the rest."""
        _synchronize(pl_module.device)
        self._steps.append(clocks.read() - self._started)
        step = trainer.global_step - 1
        length = self._length
        if step == length.counted[-1] and self._result["not_counted"] is None:
            self._result["sent"] = (self._sent() - self._before)._asdict()
            trainer.strategy.barrier()  # a rank that has ended would have closed its connections
        if step == length.memory_step:
            self._count_memory(trainer, pl_module)
        if self._in_flight is not None and step == length.total - 1:
            profiled = sum(clock.wall for clock in self._steps[length.memory_step + 1 :])
            self._result["in_flight_share"] = min(1.0, self._in_flight.stop() / profiled)
        if trainer.is_global_zero:
            (self._folder / "progress").write_text(str(step + 1), encoding="utf-8")

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Writes the result of this rank."""
        timed = self._steps[self._length.warm_up : self._length.memory_step]
        walls = [clock.wall for clock in timed]
        strategy: Any = trainer.strategy
        on_cuda = pl_module.device.type == "cuda"
        result = self._result | {
            "rank": trainer.global_rank,
            "timed_steps": len(walls),
            "counted_steps": len(self._length.counted),
            "step_s": walls,
            "median_step_s": statistics.median(walls) if walls else None,
            # The thread that trains is asleep while it waits for other ranks; with a GPU it waits for that as well.
            "waited_share": None if on_cuda or not walls else clocks.share(timed, "asleep"),
            "moving_share": None if on_cuda or not walls else clocks.share(timed, "beside"),
            "parameter_share": strategy.parameter_share,
            "row_parts": strategy.row_part[1],
            "minimum_bytes": strategy.minimum_bytes_sent(pl_module.net) if trainer.world_size > 1 else 0,
            "halo_bytes": self._halo.rows,
            "pooled_bytes": self._halo.pooled,
            "batch_norm_bytes": statistics_bytes(pl_module.net, trainer.num_micro_batches),
            "peak_resident_bytes": _peak_resident_bytes(),
        }
        write_json(self._folder / f"rank-{trainer.global_rank}.json", result)

    def _exchanged(self, trainer: Any, pl_module: Any, batch: Any) -> Exchanged:
        """Returns what a step must exchange because several ranks hold an image's rows."""
        ranks = trainer.strategy.row_part[1]
        if ranks == 1:
            return Exchanged(0, 0)
        images, channels, _, width = batch.image.shape
        dtype = next(pl_module.net.parameters()).dtype
        # Bytes go with the images, and no BatchNorm refuses two.
        two = torch.empty(2, channels, batch.height, width, dtype=dtype, device="meta")
        of_two = exchanged(self._twin.to(dtype), two, ranks)
        return Exchanged(of_two.rows * images // 2, of_two.pooled * images // 2)

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
