"""A reduce-scatter for gloo that sends what it must; gloo's own is a whole all-reduce, which sends twice as much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp._fully_shard._fsdp_api import ReduceScatter


class AllToAllReduceScatter(ReduceScatter):
    """Sends each rank its part of every other rank's input, and adds up here, in the order of the ranks.

    On N ranks each sends (N - 1) / N of its input.
    """

    def allocate(self, size: Sequence[Any], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Returns memory for a reduction."""
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(
        self, output_tensor: Tensor, input_tensor: Tensor, group: dist.ProcessGroup, op: Any, async_op: bool = False
    ) -> None:
        """Writes the sum or the mean over ranks of this rank's part of the input.

        Raises:
            ValueError: If it is to be reduced in another way.
        """
        if op not in (dist.ReduceOp.SUM, dist.ReduceOp.AVG):
            raise ValueError(f"gradients can be summed or averaged over ranks, not reduced by {op}.")
        parts = torch.empty_like(input_tensor)
        dist.all_to_all_single(parts, input_tensor, group=group)
        torch.sum(parts.view(group.size(), -1), 0, out=output_tensor)
        if op == dist.ReduceOp.AVG:
            output_tensor /= group.size()
