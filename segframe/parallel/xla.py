"""`strategy=xla`: the batch is split over the cores of a TPU, by one program for all of them."""

from __future__ import annotations

import sys
from typing import Any, Literal

import torch
from pytorch_lightning.strategies import Strategy
from pytorch_lightning.strategies.single_xla import SingleDeviceXLAStrategy
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.utils._pytree import tree_map
from torchmetrics import Metric
from tqdm import tqdm

from segframe.parallel.seam import Seam
from segframe.parallel.xla_device import AnyXLAAccelerator, Devices, XLANumbers, find_cores
from segframe.parallel.xla_operators import register_operators
from segframe.ranks import place

_READING = "aten::_local_scalar_dense"  # .item(), which has to end on the CPU

_STATES: dict[type[Optimizer], tuple[str, ...]] = {
    SGD: ("momentum_buffer",),
    Adam: ("exp_avg", "exp_avg_sq"),
    AdamW: ("exp_avg", "exp_avg_sq"),
}


class XLA(Seam, SingleDeviceXLAStrategy):
    """One process that traces a step and has XLA compile it for all cores (GSPMD, Xu et al., arXiv:2105.04663).

    A batch's images lie in equal parts on the cores and parameters on each of them; XLA adds the exchanges, so that
    loss, BatchNorm and gradients are those of the whole batch. A training step and an evaluation step are compiled
    once each, and again for each new size of images.

    Args:
        devices: Cores; ``"auto"`` for all of the host.
        accelerator: What the trainer was told; a TPU or nothing.
        precision: What the trainer was told.
        matmul_precision: How a TPU multiplies numbers of 32 bits: in full, or rounded to bf16 in one pass or three.
        processes: One drives all cores.

    Raises:
        ValueError: If torch_xla or a TPU is missing, or the trainer asks for what this can't do.
    """

    # Lightning's own takes no other than its XLACheckpointIO.
    checkpoint_io = Strategy.checkpoint_io  # type: ignore[assignment]

    def __init__(
        self,
        devices: Devices = "auto",
        accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = "auto",
        precision: Literal["32-true", "16-mixed", "bf16-mixed", "64-true", "bf16-true"] = "32-true",
        matmul_precision: Literal["highest", "high", "default"] = "highest",
        processes: Literal[1] = 1,
    ) -> None:
        if accelerator not in ("auto", "tpu"):
            raise ValueError(
                f"strategy=xla computes on XLA devices and trainer.accelerator={accelerator} asks for others; use "
                "trainer=tpu, or another strategy. PJRT_DEVICE=CPU in the environment takes the CPU as an XLA device."
            )
        if place().world_size != processes:
            raise ValueError(
                f"strategy=xla drives all cores of a host from one process and {place().world_size} were started; "
                "start one, and say trainer.devices. Several hosts are not supported yet."
            )
        self.num_cores = find_cores(devices)
        numbers = XLANumbers(precision)
        import torch_xla
        import torch_xla.runtime

        if self.num_cores > 1 and not torch_xla.runtime.is_spmd():
            torch_xla.runtime.use_spmd()
        torch_xla._XLAC._xla_set_mat_mul_precision(matmul_precision)
        register_operators()
        super().__init__(device=torch.device("xla", 0), accelerator=AnyXLAAccelerator(), precision_plugin=numbers)
        self._told_of: set[str] = set()

    def setup(self, trainer: Any) -> None:
        """Moves the model to the cores and makes the optimizers.

        Raises:
            ValueError: If a micro-batch does not divide into equal parts.
        """
        data = getattr(trainer, "datamodule", None)
        parts = int(getattr(trainer, "num_micro_batches", 1)) * self.num_cores
        if trainer.training and data is not None and data.batch_size % parts:
            raise ValueError(
                f"data.batch_size={data.batch_size} must divide into {self.num_cores} XLA devices x "
                f"trainer.accumulate_grad_batches={parts // self.num_cores} equal parts; the nearest that does is "
                f"data.batch_size={max(parts, data.batch_size // parts * parts)}."
            )
        super().setup(trainer)
        for optimizer in self.optimizers:
            self._begin_state(optimizer)

    def model_to_device(self) -> None:
        """Puts the model on every core; counts stay on the CPU, where nothing is compiled for them."""
        import torch_xla

        assert self.model is not None
        metrics = {name: part for name, part in self.model.named_children() if isinstance(part, Metric)}
        for name in metrics:
            delattr(self.model, name)
        # XLA writes a single 0 or 1 into its program, which would be another one as soon as the number has changed.
        numbers = [buffer.clone() for buffer in self.model.buffers() if buffer.dim() == 0]
        self.model.to(self.root_device)
        for buffer, number in zip((b for b in self.model.buffers() if b.dim() == 0), numbers, strict=True):
            (buffer.data,) = torch_xla._XLAC._xla_tensors_from_aten([number], [str(self.root_device)], None)
        for name, metric in metrics.items():
            setattr(self.model, name, metric)
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            self._lay_out(tensor, split=False)

    def batch_to_device(self, batch: Any, device: torch.device | None = None, dataloader_idx: int = 0) -> Any:
        """Moves a batch, and splits its tensors over the cores where they divide."""
        batch = super().batch_to_device(batch, device, dataloader_idx)

        def split(x: Any) -> Any:
            if isinstance(x, Tensor) and x.device.type == "xla" and len(x) % self.num_cores == 0:
                self._lay_out(x, split=True)
            return x

        return tree_map(split, batch)

    def seed_device(self, value: int) -> None:
        """Seeds what is drawn on the cores."""
        import torch_xla

        torch_xla.manual_seed(value, self.root_device)

    def computed(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Computes tensors by one program and returns them on the CPU: each by itself would run the net again."""
        import torch_xla

        return tuple(torch_xla._XLAC._xla_get_cpu_tensors(list(tensors)))

    def reduce(self, tensor: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns the value of the one process, where looking at it compiles nothing."""
        return tensor.cpu() if isinstance(tensor, Tensor) else tensor

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Runs what came after the last step by itself, so that the next step's program is the same as before."""
        self._flush()

    def on_validation_start(self) -> None:
        """Runs what is pending, so that the first image's program is that of the others."""
        self._flush()
        self._tell_what_left_the_device()

    def _begin_state(self, optimizer: Optimizer) -> None:
        """Makes the zeros that a first step would make, so that the second step's program is the first's."""
        names = _STATES.get(type(optimizer), ())
        for group in optimizer.param_groups:
            for parameter in group["params"] if group.get("momentum", 1) else ():
                state = optimizer.state[parameter]
                for name in names:
                    state[name] = torch.zeros(parameter.shape, dtype=parameter.dtype).to(parameter.device)
                    self._lay_out(state[name], split=False)
                if len(names) > 1:
                    state["step"] = torch.tensor(0.0)

    def _flush(self) -> None:
        import torch_xla

        torch_xla.sync()

    def _lay_out(self, x: Tensor, split: bool) -> None:
        """Says where a tensor lies: its first axis over the cores, or all of it on each."""
        if self.num_cores == 1:
            return
        import numpy as np
        import torch_xla.distributed.spmd as spmd

        mesh = spmd.Mesh(np.arange(self.num_cores), (self.num_cores,), ("data",))
        spmd.mark_sharding(x, mesh, ("data" if split else None, *[None] * (x.dim() - 1)) if x.dim() else ())

    def _tell_what_left_the_device(self) -> None:
        """Names operators that XLA has no form of: they run on the CPU, exactly but slowly."""
        from torch_xla.debug import metrics

        ran = {name for name in metrics.counter_names() if name.startswith("aten::")} - {_READING}
        new = ran - self._told_of
        self._told_of |= new
        if new:
            tqdm.write(
                f"XLA has no form of {', '.join(sorted(new))}: they ran on the CPU, which is exact, but cuts the step "
                "into several programs.",
                file=sys.stderr,
            )
