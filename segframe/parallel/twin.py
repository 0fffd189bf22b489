"""A net's copy without data: what a training pass does, found out before training and without its memory."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_leaves

_ROWS = 128  # and columns: divisible by the stride of every usual net


def twin_of(net: nn.Module) -> nn.Module:
    """Returns a copy in training mode whose tensors have shapes but no data.

    A parameter that several modules share is one for each of them in the copy.

    Raises:
        RuntimeError: If the net can't be copied.
    """
    twin = copy.deepcopy(net).to("meta").train()
    for module in twin.modules():
        # Without a momentum BatchNorm reads how many batches it has seen; the mean that this makes has no data here.
        if isinstance(module, _NormBase) and module.momentum is None:
            module.momentum = 0.0
    return twin


def image_for(net: nn.Module) -> Tensor:
    """Returns two images without data, with the channels that the net's first convolution takes.

    Raises:
        ValueError: If the net has no convolution.
    """
    convolution = next((m for m in net.modules() if isinstance(m, nn.Conv2d)), None)
    if convolution is None:
        raise ValueError(f"{type(net).__name__} has no convolution that tells what it takes.")
    dtype = next(net.parameters()).dtype
    return torch.empty(2, convolution.in_channels, _ROWS, _ROWS, dtype=dtype, device="meta")


def all_learn(net: nn.Module, auxiliary: bool = True) -> bool:
    """Tells whether every trainable parameter gets a gradient; False too where that can't be found out.

    Args:
        net: Any net; it is not changed.
        auxiliary: Whether its auxiliary maps have a loss.
    """
    try:
        twin = twin_of(net)
        with torch.enable_grad():
            output = twin(image_for(twin))
            maps = tree_leaves(output if auxiliary else getattr(output, "logits", output))
            torch.stack([x.sum() for x in maps if isinstance(x, Tensor) and x.requires_grad]).sum().backward()  # type: ignore[no-untyped-call]
    except Exception:  # whatever a net's own code raises for such an image
        return False
    return all(p.grad is not None for p in twin.parameters() if p.requires_grad)
