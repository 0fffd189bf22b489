"""Checkpoints of a net whose stages are on several ranks: whole ones go in, whole ones come out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.distributed as dist
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.optim import Optimizer

from segframe.parallel.placeholders import collect, emptied
from segframe.parallel.seam import Seam


class StagedState(Seam):
    """What a strategy does with states where each rank has some parameters and placeholders of the others.

    Attributes:
        stages_group: The ranks that hold one model together; None where one does.
    """

    stages_group: ProcessGroup | None

    def whole(self, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns complete CPU tensors under the whole model's names on rank 0, nothing elsewhere (collective)."""
        if self.stages_group is None:
            return super().whole(named)
        # Other pipelines have the same.
        device: Any = getattr(self, "root_device")  # noqa: B009 - the Lightning strategy's
        return collect(named, self.stages_group, device) if self.data_rank == 0 else {}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Returns an optimizer's state as one process would have it on rank 0, nothing elsewhere (collective)."""
        inner = optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        content = inner.state_dict()
        named = {
            f"{index}/{key}": value
            for index, state in content["state"].items()
            for key, value in state.items()
            if isinstance(value, Tensor)
        }
        others = [
            (i, k, v) for i, state in content["state"].items() for k, v in state.items() if f"{i}/{k}" not in named
        ]
        states: dict[int, dict[str, Any]] = {}
        for index, key, value in self.gather_from_stages(others):
            states.setdefault(index, {})[key] = value
        for name, value in self.whole(named).items():
            index, _, key = name.partition("/")
            states.setdefault(int(index), {})[key] = value
        is_zero = bool(getattr(self, "is_global_zero", True))
        return {**content, "state": dict(sorted(states.items()))} if is_zero else {}

    def gather_from_stages(self, items: list[Any]) -> list[Any]:
        """Returns the items of all ranks of this pipeline (collective)."""
        if self.stages_group is None:
            return items
        found: list[Any] = [None] * self.stages_group.size()
        dist.all_gather_object(found, items, group=self.stages_group)
        return [item for part in found for item in part]

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Takes this rank's part of a whole model's state."""
        module: Any = getattr(self, "lightning_module")  # noqa: B009
        module.load_state_dict(emptied(checkpoint["state_dict"], module.state_dict()), strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Takes this rank's part of the optimizers' state of one process."""
        optimizers: Any = getattr(self, "optimizers")  # noqa: B009
        for optimizer, content in zip(optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            own = {i: state for i, state in content["state"].items() if not parameters[int(i)].is_meta}
            optimizer.load_state_dict({**content, "state": own})
