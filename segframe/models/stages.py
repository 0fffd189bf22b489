"""The fold that turns a net's consecutive parts back into its forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from segframe.contracts import SegmentationOutput

Stage = Callable[..., Any]
"""Takes the tensors that the stage before it returned, each as an argument of its own."""


def run_stages(stages: Sequence[Stage], image_BCHW: Tensor) -> SegmentationOutput:
    """Feeds an image through consecutive stages.

    A stage gets what the one before returned: a tensor, or every element of a tuple as an argument of
    its own. That is the convention of ``torch.distributed.pipelining``.

    Args:
        stages: The ``stages`` of a net, in order; the last one returns a ``SegmentationOutput``.
        image_BCHW: (B, C, H, W), normalised.
    """
    carried: tuple[Any, ...] = (image_BCHW,)
    for stage in stages:
        result = stage(*carried)
        carried = result if isinstance(result, tuple) else (result,)
    assert isinstance(carried, SegmentationOutput)
    return carried
