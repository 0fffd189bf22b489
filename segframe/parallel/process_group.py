"""What strategies of several processes share: the process group, sums, and whole states from parts."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

import torch
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import Tensor, nn
from tqdm import tqdm

from segframe import rendezvous
from segframe.hang_watch import HangWatch
from segframe.parallel.batch_norm import share_batch_norm
from segframe.parallel.buffers import take_from_rank_0
from segframe.parallel.environment import RankEnvironment
from segframe.parallel.seam import Seam
from segframe.parallel.stochastic import share_randomness


class ProcessGroupStrategy(Seam, DDPStrategy):
    """One process per device over a process group that was tried before training; nothing is split yet.

    Args:
        sync_batchnorm: Whether BatchNorm's statistics are those of all ranks.
        timeout_s: How long a rank waits for the others in training.
        start_timeout_s: How long it waits for them at the start.
        options: Of ``DDPStrategy``.
    """

    def __init__(self, sync_batchnorm: bool, timeout_s: float, start_timeout_s: float, **options: Any) -> None:
        super().__init__(cluster_environment=RankEnvironment(), timeout=timedelta(seconds=timeout_s), **options)
        self.sync_batchnorm = sync_batchnorm
        self._start_timeout_s = start_timeout_s
        self._watch = HangWatch(timeout_s)
        self._net_to_evaluate: nn.Module | None = None
        self._has_told = False

    def setup_distributed(self) -> None:
        """Joins the other ranks, and checks that all of them answer."""
        setattr(rank_zero_only, "rank", self.global_rank)  # noqa: B010 - what Lightning tells is rank 0's to tell
        self._process_group_backend = self._get_process_group_backend()
        assert self._timeout is not None
        rendezvous.start_process_group(
            self._process_group_backend, self.root_device, self._start_timeout_s, self._timeout.total_seconds()
        )

    def parallelize(self, net: nn.Module) -> None:
        """Makes layers that look at the whole batch look at that of all ranks."""
        self._net_to_evaluate = net
        if self.world_size > 1:
            self.share_layers(net)

    def share_layers(self, net: nn.Module) -> None:
        """Changes the layers of a net that would compute something else of a part of the batch."""
        if self.sync_batchnorm:
            share_batch_norm(net)
        share_randomness(net, self.data_rank, self.data_size)

    def setup(self, trainer: Any) -> None:
        """Moves the model to its device and makes the optimizers."""
        assert self.accelerator is not None
        assert self.model is not None
        self.accelerator.setup(trainer)
        self.precision_plugin.convert_module(self.model)
        self.model_to_device()
        if trainer.state.fn == TrainerFn.FITTING:
            self.wrap()
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()

    def wrap(self) -> None:
        """Puts what needs the moved model around it."""

    def sum_over_ranks(self, value: Tensor) -> Tensor:
        """Returns the sum of a tensor over all ranks."""
        if self.world_size == 1:
            return value
        value = value.clone()
        torch.distributed.all_reduce(value)
        return value

    def gather(self, items: list[Any]) -> list[Any]:
        """Returns the items of all ranks, those of rank 0 first."""
        if self.world_size == 1:
            return items
        found: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(found, items)
        return [item for part in found for item in part]

    def training_step(self, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Notes that this rank gets on."""
        self._watch.beat()
        return super().training_step(*args, **kwargs)

    def validation_step(self, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Notes that this rank gets on."""
        self._watch.beat()
        return super().validation_step(*args, **kwargs)

    @torch.no_grad()
    def on_validation_start(self) -> None:
        """Evaluates with rank 0's buffers, which checkpoints hold, where each rank has its own."""
        super().on_validation_start()
        if self._net_to_evaluate is None or self.world_size == 1:
            return
        own = take_from_rank_0(dict(self._net_to_evaluate.named_buffers()), self.root_device)
        if own and self.sync_batchnorm and not self._has_told and self.is_global_zero:
            self._has_told = True
            tqdm.write(
                f"{len(own)} buffers, such as {own[0]}, are computed from each rank's own images: this run's numbers "
                "are not those of one process. Rank 0's are evaluated and saved.",
                file=sys.stderr,
            )

    def teardown(self) -> None:
        """Ends the watch, and takes the model out of what ``wrap`` has put around it."""
        self._watch.stop()
        self.model = self.lightning_module
        super().teardown()
