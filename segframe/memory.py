"""Activation checkpointing that leaves parameters, buffers and their names as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.checkpoint import checkpoint


def checkpoint_activations(net: nn.Module) -> list[str]:
    """Makes every outermost ``nn.Sequential`` of a net recompute its activations in the backward pass.

    Running statistics of BatchNorm are updated once, by the first forward pass alone.

    Returns:
        The names of the modules that recompute.

    Raises:
        ValueError: If the net has no Sequential with parameters.
    """
    names = list(_outermost_sequentials(net, ""))
    if not names:
        raise ValueError(
            f"task.activation_checkpointing=true found nothing to recompute in {type(net).__name__}: it works on "
            "nn.Sequential blocks and this net has none; set it to false."
        )
    for name in names:
        block = net.get_submodule(name)
        block.forward = partial(_recomputed, block, block.forward)
    return names


def _outermost_sequentials(module: nn.Module, prefix: str) -> Iterator[str]:
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if isinstance(child, nn.Sequential) and next(child.parameters(), None) is not None:
            yield path
        else:
            yield from _outermost_sequentials(child, f"{path}.")


def _recomputed(block: nn.Module, forward: Callable[..., Any], *inputs: Any) -> Any:
    # Subclasses of Sequential may take and return more: SegNet's stages carry pooling indices.
    if not block.training:
        return forward(*inputs)
    # One by one, since tensors inside of others (indices, split rows) would be kept where no hook sees them.
    leaves, tree = tree_flatten(inputs)

    def again(*leaves: Any) -> Any:
        return forward(*tree_unflatten(leaves, tree))

    return checkpoint(again, *leaves, use_reentrant=False, context_fn=partial(_contexts, block))


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _frozen_statistics(block)


@contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    """Keeps a second forward pass from updating BatchNorm's running statistics again."""
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    before = [(m.momentum, m.num_batches_tracked) for m in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, (momentum, tracked) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, tracked
