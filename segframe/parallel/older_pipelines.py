"""A stage of ``torch.distributed.pipelining`` that takes what only goes forward, for PyTorch before its own could.

There every tensor that is received is given a gradient, which bytes can't have, and a gradient is awaited for every one
that was sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup, pipelining


def is_needed() -> bool:
    """Whether this PyTorch's own stages give gradients to all that crosses."""
    return not hasattr(pipelining.PipelineStage, "_get_grad_send_meta")


class ForwardOnlyStage(pipelining.PipelineStage):
    """A stage that exchanges gradients of the tensors that learn, and of no others.

    Args:
        part: What it runs.
        index: Its place.
        size: The number of stages.
        device: Its rank's.
        inputs: What it receives, on the meta device.
        outputs: What it sends, on the meta device.
        group: The ranks of all stages.
        learns_in: Whether each input has a gradient.
        learns_out: Whether each output has one.
    """

    def __init__(
        self,
        part: nn.Module,
        index: int,
        size: int,
        device: torch.device,
        inputs: tuple[Tensor, ...],
        outputs: tuple[Tensor, ...],
        group: ProcessGroup,
        learns_in: Sequence[bool],
        learns_out: Sequence[bool],
    ) -> None:
        super().__init__(part, index, size, device, inputs, outputs, group=group)
        self._learns_in, self._learns_out = tuple(learns_in), tuple(learns_out)

    def _prepare_forward_infra(self, *given: Any, **named: Any) -> Any:
        has_backward, self.has_backward = self.has_backward, False  # no buffer is given a gradient
        try:
            outputs = super()._prepare_forward_infra(*given, **named)
        finally:
            self.has_backward = has_backward
        if not self.is_first:
            for infos in self.args_recv_info.values():
                buffers: list[Any] = [info.buffer for info in infos]
                for buffer, learns in zip(buffers, self._learns_in, strict=True):
                    buffer.requires_grad_(learns and has_backward)
        return outputs

    def _create_grad_send_info(self, args_recv_info: Any) -> Any:
        found = super()._create_grad_send_info(args_recv_info)
        return [stage if learns else None for stage, learns in zip(found, self._learns_in, strict=True)]

    def get_bwd_send_ops(self, bwd_chunk_id: int) -> Any:
        """Returns what sends the gradients of a micro-batch's inputs; zeros where the stage has not used one."""
        if self.has_backward and not self.is_first:
            buffers: list[Any] = [info.buffer for info in self.args_recv_info[bwd_chunk_id]]
            given = zip(self.bwd_cache[bwd_chunk_id], buffers, self._learns_in, strict=True)
            self.bwd_cache[bwd_chunk_id] = tuple(
                torch.zeros_like(buffer) if learns and gradient is None else gradient
                for gradient, buffer, learns in given
            )
        return super().get_bwd_send_ops(bwd_chunk_id)

    def _create_grad_recv_info(self, act_send_info: Any) -> Any:
        found = super()._create_grad_recv_info(act_send_info)
        return tuple(info if learns else None for info, learns in zip(found, self._learns_out, strict=False))

    def _retrieve_recv_grads(self, bwd_chunk_id: int) -> Any:
        return tuple(None if info is None else info.buffer for info in self.grad_recv_info[bwd_chunk_id])

    # What crosses was found out on real values; strides of a single image's channels are ambiguous, and what the last
    # stage has goes to no other.
    def _validate_fwd_input(self, *given: Any) -> None: ...

    def _validate_fwd_outputs(self, *given: Any) -> None: ...
