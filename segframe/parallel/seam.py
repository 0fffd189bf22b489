"""What every strategy of segframe can do beside what Lightning asks of one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from segframe.sharding import full, part_like, split_like


class Seam:
    """Where a strategy meets the task, the data module and checkpoints; the defaults are those of one device.

    Mixed into a Lightning ``Strategy``, before it in the order of parents. Methods marked *collective* are
    called by every rank, in the same order.
    """

    @property
    def data_rank(self) -> int:
        """This process among those that share the data set; ranks that hold parts of one image have the same."""
        return int(getattr(self, "global_rank", 0))

    @property
    def data_size(self) -> int:
        """How many share the data set."""
        return int(getattr(self, "world_size", 1))

    @property
    def parameter_share(self) -> float:
        """The share of the whole model's parameters that this rank promises to hold at most, between steps."""
        return 1.0

    def parallelize(self, net: nn.Module) -> None:
        """Changes a net in place into this rank's part of it; called once, before optimizers are made.

        Args:
            net: The whole net, with the same values on every rank.

        Raises:
            ValueError: If it can't be split exactly; names the part.
        """

    def without_sync(self) -> AbstractContextManager[Any]:
        """Returns the context of a backward pass that others of the same step follow."""
        return nullcontext()

    def sum_over_ranks(self, value: Tensor) -> Tensor:
        """Returns the sum of a tensor over the ranks that hold different pixels (*collective*)."""
        return value

    def gather(self, items: list[Any]) -> list[Any]:
        """Returns the items of all ranks that hold different images, those of rank 0 first (*collective*)."""
        return items

    def whole(self, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns complete CPU tensors under the whole model's names on rank 0, nothing elsewhere (*collective*).

        Args:
            named: This rank's part of parameters, gradients, buffers or averages of them.
        """
        is_zero = bool(getattr(self, "is_global_zero", True))
        found = {}
        for name, tensor in named.items():
            complete = full(tensor)
            if is_zero:
                found[name] = complete.detach().cpu()
        return found

    def minimum_bytes_sent(self, net: nn.Module) -> int | None:
        """Returns the fewest bytes that this rank must send in an optimizer step, None where that is not known."""
        return None

    def teardown(self) -> None:
        """Lets go of what training needed; the net stays where it is, for what is predicted after a run."""
        for part in ("cluster_environment", "precision_plugin", "accelerator", "checkpoint_io"):
            owner: Any = getattr(self, part, None)
            if owner is not None:
                owner.teardown()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Returns an optimizer's state as one process would have it on rank 0, nothing elsewhere (*collective*)."""
        inner = optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        content = inner.state_dict()
        is_zero = bool(getattr(self, "is_global_zero", True))
        states = {}
        for index, state in content["state"].items():
            complete = {key: full(value) if isinstance(value, Tensor) else value for key, value in state.items()}
            if is_zero:
                states[index] = {k: v.cpu() if isinstance(v, Tensor) else v for k, v in complete.items()}
        return {**content, "state": states} if is_zero else {}

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Returns the whole model's state under its own names on rank 0, nothing elsewhere (*collective*)."""
        module: Any = getattr(self, "lightning_module")  # noqa: B009 - the Lightning strategy's
        return self.whole(module.state_dict())

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Takes this rank's part of a whole model's state."""
        module: Any = getattr(self, "lightning_module")  # noqa: B009
        module.load_state_dict(split_like(checkpoint["state_dict"], module.state_dict()), strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Takes this rank's part of the optimizers' state of one process."""
        optimizers: Any = getattr(self, "optimizers")  # noqa: B009
        for optimizer, content in zip(optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            states = {}
            for index, state in content["state"].items():
                own = parameters[int(index)]
                states[index] = {
                    key: part_like(v, own) if isinstance(v, Tensor) and v.shape == own.shape else v
                    for key, v in state.items()
                }
            optimizer.load_state_dict({**content, "state": states})
