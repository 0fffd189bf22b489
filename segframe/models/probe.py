"""Finds out what a net does by running it on tensors without data ("meta" device).

Shape suffixes: B batch, C channels, H rows, W columns.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Outputs = Callable[[nn.Module, Tensor], Sequence[Tensor]]
"""Runs a net on an image and returns the tensors that its user goes on with."""


def measure_stride(net: nn.Module, in_channels: int, outputs: Outputs) -> int:
    """Returns the stride of the net's first output: input rows per output row.

    Two sizes are compared, because unpadded convolutions (Inception) eat a constant border.
    """
    twin = copy.deepcopy(net).to("meta").eval()
    with torch.no_grad():
        small, large = (
            outputs(twin, torch.empty(1, in_channels, side, side, device="meta"))[0].shape[-2] for side in (512, 1024)
        )
    return round(512 / (large - small))


def drop_unused_parameters(net: nn.Module, in_channels: int, outputs: Outputs, side: int = 128) -> list[str]:
    """Takes every parameter out of ``net`` that no output depends on.

    A parameter without a gradient stops DistributedDataParallel at its second step. Modules that are
    never called (a classifier, a stage past the last one used) become ``nn.Identity``; parameters of
    modules that are called in vain become buffers, with their name and value.

    Args:
        net: Changed in place.
        in_channels: Channels of the image.
        outputs: Which outputs count.
        side: Rows and columns of the image it is tried on.

    Returns:
        The names of the parameters that were taken out.
    """
    twin = copy.deepcopy(net).to("meta").eval()
    called: set[str] = set()
    for name, module in twin.named_modules():
        module.register_forward_hook(lambda *_, name=name: called.add(name))
    image_BCHW = torch.empty(1, in_channels, side, side, device="meta")
    total = torch.stack([output.sum() for output in outputs(twin, image_BCHW)]).sum()
    names, parameters = zip(*twin.named_parameters(), strict=True)
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    unused = [name for name, gradient in zip(names, gradients, strict=True) if gradient is None]
    for name in unused:
        _take_out(net, name, called)
    return unused


def _take_out(net: nn.Module, name: str, called: set[str]) -> None:
    owner, _, attribute = name.rpartition(".")
    module = net.get_submodule(owner)
    if isinstance(module, nn.Identity):
        return  # went with a sibling
    if owner and owner not in called:
        parent, _, child = owner.rpartition(".")
        setattr(net.get_submodule(parent), child, nn.Identity())
        return
    value = module._parameters.pop(attribute)
    assert value is not None
    module.register_buffer(attribute, value.detach())
