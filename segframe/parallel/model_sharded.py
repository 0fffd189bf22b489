"""`strategy=model_sharded`: the layers of a net on several ranks, as a pipeline of micro-batches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
from pytorch_lightning.strategies import Strategy
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.optim import Optimizer
from tqdm import tqdm

from segframe.contracts import SegmentationOutput
from segframe.parallel.batch_norm import share_batch_norm
from segframe.parallel.cuts import cut
from segframe.parallel.grid import Grid
from segframe.parallel.pipeline import Pipeline
from segframe.parallel.placed import Placed
from segframe.parallel.placeholders import held, keep_only, tensors_of
from segframe.parallel.process_group import ProcessGroupStrategy
from segframe.parallel.staged_state import StagedState
from segframe.parallel.stochastic import share_randomness
from segframe.ranges import Positive, PositiveInt


def model_sharded(
    schedule: Literal["gpipe", "1f1b", "none"] = "1f1b",
    cuts: Literal["auto"] | list[int] | list[str] = "auto",
    data: PositiveInt = 1,
    sync_batchnorm: bool = True,
    timeout_s: Positive = 1800,
    start_timeout_s: Positive = 120,
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = "auto",
    devices: PositiveInt | Literal["auto"] | list[int] = "auto",
) -> Strategy:
    """Returns a pipeline of ranks, or one process that computes on several devices.

    Args:
        schedule: The order of forward and backward passes of micro-batches on a rank; ``none``: no ranks, one process
            moves activations from device to device.
        cuts: Where the net is cut, as ``segframe.parallel.cuts.cut`` takes it.
        data: Pipelines side by side, each with its part of the batch.
        sync_batchnorm: Whether BatchNorm's statistics are those of all pipelines' images of a micro-batch.
        timeout_s: How long a rank waits for the others in training.
        start_timeout_s: How long it waits for them at the start.
        accelerator: The kind of device, for ``schedule=none``.
        devices: How many of them one process takes, for ``schedule=none``.

    Raises:
        ValueError: If ``schedule=none`` is asked for several pipelines.
    """
    if schedule == "none":
        if data != 1:
            raise ValueError(
                f"strategy.data={data} needs ranks, and strategy.schedule=none is one process; use 1f1b or gpipe."
            )
        return Placed(cuts, accelerator, devices)
    return ModelSharded(schedule, cuts, data, sync_batchnorm, timeout_s, start_timeout_s)


class ModelSharded(StagedState, ProcessGroupStrategy):
    """Each rank holds consecutive stages of the net, their gradients and their optimizer state.

    A rank's place is ``data index * stages + stage``. Micro-batches are those of gradient accumulation, and so are the
    numbers. The parameters of other ranks' stages have names and shapes here, but no memory.

    Args:
        schedule: ``gpipe`` or ``1f1b``.
        cuts: Where the net is cut, as ``segframe.parallel.cuts.cut`` takes it.
        data: Pipelines side by side, each with its part of the batch.
        sync_batchnorm: Whether BatchNorm's statistics are those of all pipelines' images of a micro-batch.
        timeout_s: How long a rank waits for the others in training.
        start_timeout_s: How long it waits for them at the start.

    Raises:
        ValueError: If the net can't be cut so, before training, on every rank.
    """

    def __init__(
        self,
        schedule: Literal["gpipe", "1f1b"] = "1f1b",
        cuts: Literal["auto"] | list[int] | list[str] = "auto",
        data: PositiveInt = 1,
        sync_batchnorm: bool = True,
        timeout_s: Positive = 1800,
        start_timeout_s: Positive = 120,
    ) -> None:
        super().__init__(sync_batchnorm, timeout_s, start_timeout_s)
        self._schedule, self._cuts, self._data = schedule, cuts, data
        self._pipeline: Pipeline | None = None
        self.stages_group: ProcessGroup | None = None
        self._data_group: ProcessGroup | None = None
        self._share = 1.0
        self._net: nn.Module | None = None

    @property
    def num_stages(self) -> int:
        """Ranks of a pipeline."""
        return self.world_size // self._data

    @property
    def data_rank(self) -> int:
        """This rank's pipeline among those side by side."""
        return self.global_rank // self.num_stages

    @property
    def data_size(self) -> int:
        """Pipelines side by side."""
        return self._data

    @property
    def parameter_share(self) -> float:
        """The share of the parameters that are in this rank's stages."""
        return self._share

    @property
    def is_cut(self) -> bool:
        """Whether there is more than one rank to a pipeline."""
        return self.num_stages > 1

    @property
    def counts(self) -> bool:
        """Whether this rank has the last stage."""
        return self.global_rank % self.num_stages == self.num_stages - 1

    @property
    def num_averaged(self) -> int:
        """Pipelines side by side."""
        return self._data

    def parallelize(self, net: nn.Module) -> None:
        """Keeps this rank's stages of a net, and lets the net run through all ranks.

        Raises:
            ValueError: If the net can't be cut so, or something asked for needs it in one piece.
        """
        self._net_to_evaluate = self._net = net
        self._check()
        if not self.is_cut:
            return
        divided = cut(net, self.num_stages, self._cuts)  # before BatchNorm is shared: a twin of the net runs here
        if self.is_global_zero:
            alike = f", and so on in each of {self._data} pipelines" if self._data > 1 else ""
            tqdm.write("\n".join(divided.lines("rank")) + alike, file=sys.stderr)
        assert self._timeout is not None
        grid = Grid({"data": self._data, "stages": self.num_stages}, self.global_rank, self._timeout)
        self.stages_group, self._data_group = grid.group("stages"), grid.group("data")
        if self._data > 1:
            if self.sync_batchnorm:
                share_batch_norm(net, self._data_group)
            share_randomness(net, self.data_rank, self._data)
        rank = self.stages_group.rank()
        self._share = divided.share(rank, divided.sizes)
        stages: list[Any] = list(getattr(net, "stages"))  # noqa: B009 - of any net
        own = stages[divided.part(rank)]
        others = [stage for stage in stages if all(stage is not mine for mine in own)]
        kept = {id(x) for x in (*net.parameters(), *net.buffers())} - {id(x) for s in others for x in tensors_of(s)}
        keep_only(net, kept)
        self._pipeline = Pipeline(net, own, self.stages_group, self.root_device, self._schedule)
        setattr(net, "forward", self._pipeline)  # noqa: B010 - mypy lets nobody replace a method

    def _check(self) -> None:
        if self.world_size % self._data or (self._data > 1 and not self.is_cut):
            raise ValueError(
                f"strategy.data={self._data} pipelines of two ranks or more can't be made of {self.world_size} ranks; "
                f"use trainer.devices={2 * self._data}, another strategy.data, or strategy=ddp, which cuts no layers."
            )
        if getattr(self.lightning_module, "compiles", False) and self.is_cut:
            raise ValueError(
                "task.compile=true compiles a net as a whole and strategy=model_sharded runs it in parts; set "
                "task.compile=false."
            )
        if self.precision_plugin.precision == "16-mixed" and self.is_cut:
            raise ValueError(
                "trainer.precision=16-mixed scales the loss by what it sees of all gradients, and under "
                "strategy=model_sharded no rank sees all; use bf16-mixed, which needs no scaling, or 32-true."
            )

    def model_to_device(self) -> None:
        """Moves what this rank has the data of."""
        module, net = self.lightning_module, self._net
        assert module is not None
        if net is None or self._pipeline is None:
            super().model_to_device()
            return
        name = next(name for name, child in module.named_children() if child is net)
        setattr(module, name, nn.Identity())
        try:
            module.to(self.root_device)
        finally:
            setattr(module, name, net)
        net._apply(lambda x: x if x.is_meta else x.to(self.root_device))  # type: ignore[no-untyped-call]

    def setup_precision_plugin(self) -> None:
        """Makes clipping look at all ranks' gradients."""
        super().setup_precision_plugin()
        if self.is_cut:
            setattr(self.precision_plugin, "clip_grad_by_norm", self._clip_by_norm)  # noqa: B010

    def run_parts(
        self,
        net: Callable[[Tensor], SegmentationOutput],
        images: Sequence[Tensor],
        objective: Callable[[int, SegmentationOutput], Tensor],
        seed: Callable[[int], None],
    ) -> Tensor:
        """Runs both passes of all micro-batches, and returns a scalar whose backward pass does nothing."""
        if self._pipeline is None:
            return super().run_parts(net, images, objective, seed)
        self._pipeline.train(images, objective, seed)
        if self._data > 1 and self._net is not None:
            self._average([p.grad for p in self._net.parameters() if p.grad is not None])
        return torch.zeros((), device=self.root_device, requires_grad=True)

    def sum_over_ranks(self, value: Tensor) -> Tensor:
        """Returns the sum of a tensor over the pipelines."""
        if self._data == 1:
            return value
        value = value.clone()
        dist.all_reduce(value, group=self._data_group)
        return value

    def agree(self, value: Tensor) -> Tensor:
        """Returns what the rank with the last stage has, a real number in fp64."""
        if self._pipeline is None:
            return value
        value = value.double() if value.is_floating_point() else value.clone()
        dist.broadcast(value, dist.get_process_group_ranks(self.stages_group)[-1], group=self.stages_group)
        return value

    def gather(self, items: list[Any]) -> list[Any]:
        """Returns the items of the ranks with the last stage."""
        return super().gather(items if self.counts else [])

    def whole_map(self, x_BhW: Tensor, height: int) -> Tensor:
        """Returns the last stage's prediction."""
        return self.agree(x_BhW.contiguous())

    @torch.no_grad()
    def on_validation_start(self) -> None:
        """Evaluates with the first pipeline's buffers, where each has its own; stages have none in common."""
        if not self.is_cut:
            super().on_validation_start()
        elif self._data > 1 and not self.sync_batchnorm and self._net is not None:
            for buffer in held(dict(self._net.named_buffers())).values():
                dist.broadcast(buffer, dist.get_process_group_ranks(self._data_group)[0], group=self._data_group)

    def minimum_bytes_sent(self, net: nn.Module) -> int | None:
        """Returns the bytes of activations and gradients that cross this rank's cuts; known after the first step."""
        if self._pipeline is None:
            return 0
        crossing = self._pipeline.bytes_sent
        gradients = sum(p.numel() * p.element_size() for p in net.parameters() if p.requires_grad and not p.is_meta)
        return None if crossing is None else crossing + 2 * (self._data - 1) * gradients // self._data

    def _average(self, gradients: list[Tensor]) -> None:
        """Averages gradients over pipelines, those of one format together."""
        for dtype in dict.fromkeys(gradient.dtype for gradient in gradients):  # in an order that all ranks have
            alike = [gradient for gradient in gradients if gradient.dtype == dtype]
            together = torch.cat([gradient.reshape(-1) for gradient in alike])
            dist.all_reduce(together, group=self._data_group)
            together /= self._data
            for gradient, mean in zip(alike, together.split([g.numel() for g in alike]), strict=True):  # type: ignore[no-untyped-call]
                gradient.copy_(mean.view(gradient.shape))

    @torch.no_grad()
    def _clip_by_norm(self, optimizer: Optimizer, limit: float) -> None:
        """Scales gradients by the norm of all ranks' together, in the order in which one process adds them up."""
        parameters = list(self.precision_plugin.main_params(optimizer))
        norms = torch.zeros(2, len(parameters), device=self.root_device, dtype=torch.float64)
        for index, parameter in enumerate(parameters):
            if parameter.grad is not None:
                norms[:, index] = torch.stack((torch.linalg.vector_norm(parameter.grad).double(), norms.new_ones(())))
        dist.all_reduce(norms, group=self.stages_group)
        dtype = next(p.dtype for p in parameters)
        total = torch.linalg.vector_norm(norms[0, norms[1] > 0].to(dtype))
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, total)
