"""`strategy=ddp`: the batch is split over ranks, and their gradients are averaged."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from segframe.parallel.process_group import ProcessGroupStrategy
from segframe.parallel.twin import all_learn
from segframe.ranges import Positive


class DDP(ProcessGroupStrategy):
    """DistributedDataParallel over the net as it is.

    Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", VLDB 2020.

    Args:
        sync_batchnorm: Whether BatchNorm's statistics are those of all ranks, so that numbers are those of one.
        find_unused_parameters: Whether each backward pass looks which parameters it leaves out, which takes
            time; None does so for nets that leave out any in a pass without data, before training.
        timeout_s: How long a rank waits for the others in training.
        start_timeout_s: How long it waits for them at the start.
    """

    def __init__(
        self,
        sync_batchnorm: bool = True,
        find_unused_parameters: bool | None = None,
        timeout_s: Positive = 1800,
        start_timeout_s: Positive = 120,
    ) -> None:
        super().__init__(
            sync_batchnorm,
            timeout_s,
            start_timeout_s,
            find_unused_parameters=bool(find_unused_parameters),
            gradient_as_bucket_view=True,
            # Equal already where statistics are shared; otherwise rank 0's are taken before an evaluation.
            broadcast_buffers=False,
        )
        self._find_unused = find_unused_parameters

    def parallelize(self, net: nn.Module) -> None:
        """Makes layers look at the whole batch, and finds out whether every parameter gets a gradient."""
        if self.world_size > 1 and self._find_unused is None:
            # Before BatchNorm is shared: the twin runs here, without the other ranks.
            auxiliary = getattr(self.lightning_module, "auxiliary_weight", 1) != 0
            self._ddp_kwargs["find_unused_parameters"] = not all_learn(net, auxiliary)
        super().parallelize(net)

    def wrap(self) -> None:
        """Averages gradients in the backward pass, where there are other ranks."""
        if self.world_size > 1:
            self.configure_ddp()

    def training_step(self, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Runs a step.

        Raises:
            ValueError: If the step before left parameters out, where none was expected to.
        """
        try:
            return super().training_step(*args, **kwargs)
        except RuntimeError as error:
            if "finished reduction in the prior iteration" not in str(error):
                raise
            raise ValueError(
                "a parameter got no gradient in the last step, so that its average over the ranks was never ready; "
                "set strategy.find_unused_parameters=true, or take strategy=fsdp."
            ) from error

    def without_sync(self) -> AbstractContextManager[Any]:
        """Returns the context in which gradients are summed here alone."""
        return self.model.no_sync() if isinstance(self.model, DistributedDataParallel) else nullcontext()

    def minimum_bytes_sent(self, net: nn.Module) -> int:
        """Returns what a ring all-reduce of the gradients sends."""
        gradients = sum(p.numel() * p.element_size() for p in net.parameters() if p.requires_grad)
        return 2 * (self.world_size - 1) * gradients // self.world_size
