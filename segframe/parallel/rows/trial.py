"""Whether a net can run on split rows, found out before training: on tensors without data, on no other rank."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.utils._pytree import tree_leaves

from segframe.parallel.rows.group import Rows
from segframe.parallel.rows.tensor import RowTensor, UnsplittableError
from segframe.parallel.rows.windows import check_settled
from segframe.parallel.twin import image_for, twin_of


def trial(net: nn.Module, height: int, width: int, num_ranks: int) -> None:
    """Runs a net's copy without data on images whose rows are split, in training and in evaluation.

    Args:
        net: Any net whose BatchNorm is not shared between ranks yet; it is not changed.
        height: Rows of the images.
        width: Columns of the images.
        num_ranks: Ranks that share the rows of an image.

    Raises:
        UnsplittableError: If an operation has no exact rule; names it, the module and what to do.
        ValueError: If a map inside has fewer rows than there are ranks; names what made it.
    """
    _check_hooks(net)
    twin = twin_of(net)
    images = image_for(twin).new_empty((2, image_for(twin).shape[1], height, width))
    running, called = _follow(twin)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), _refusing_own_functions():
        # Rules refuse by global numbers, so that all ranks do alike; the first and the last one differ most.
        for training, place in ((True, 0), (False, num_ranks - 1)):
            twin.train(training)
            with _telling(net, running, (height, width), num_ranks):
                _check_output(twin(RowTensor.of(images, Rows(place, num_ranks))))
            with _telling(net, running, (height, width), num_ranks):
                _check_way(twin, images, called)
            called.clear()


_Call = tuple[str, list[tuple[int, ...]]]
"""A module's name, and the shapes of what it gave."""


def _follow(twin: nn.Module) -> tuple[list[tuple[str, nn.Module]], list[_Call]]:
    """Returns two lists: of the modules that are being called, outermost first, and of the calls that have ended."""
    running: list[tuple[str, nn.Module]] = []
    called: list[_Call] = []

    def end(module: nn.Module, given: Any, output: Any) -> None:
        leaves = tree_leaves(output, is_leaf=lambda x: isinstance(x, RowTensor))
        called.append((running.pop()[0], [tuple(x.shape) for x in leaves if isinstance(x, Tensor | RowTensor)]))

    for name, module in twin.named_modules():
        module.register_forward_pre_hook(lambda m, _, name=name: running.append((name, m)))
        module.register_forward_hook(end)
    return running, called


def _check_way(twin: nn.Module, images: Tensor, called: list[_Call]) -> None:
    """Refuses a net that calls other modules on split rows: it asks for the type of what it got."""
    on_rows = list(called)
    called.clear()
    try:
        twin(images)
    except Exception:  # on tensors without data some operations can't be run, though their rules can
        return
    nothing: _Call = ("", [])
    pairs = itertools.zip_longest(on_rows, called, fillvalue=nothing)
    other = next(((a, b) for a, b in pairs if a != b), None)
    if other is not None:
        (name, shapes), (plain_name, plain_shapes) = other
        raise UnsplittableError(
            f"its code calls {name or 'no module'} (giving {shapes}) where it calls {plain_name or 'no module'} "
            f"(giving {plain_shapes}) on a plain tensor; isinstance(x, Tensor) is False for split rows. Choose a model "
            "without such a question, or a strategy that leaves the rows of an image together."
        )


def _check_hooks(net: nn.Module) -> None:
    """Refuses modules whose backward hooks would not be called, since they get no plain tensors."""
    for name, module in net.named_modules():
        if module._backward_hooks or module._backward_pre_hooks:
            raise UnsplittableError(
                f"{name or 'the net'} ({type(module).__name__}) has a hook on its backward pass, which is not called "
                "where rows are split over ranks. Use Tensor.register_hook in forward, or strategy=ddp or fsdp."
            )


@contextmanager
def _refusing_own_functions() -> Iterator[None]:
    """Refuses autograd functions of the net's own: their gradients would be lost, without an error."""
    plain = Function.__dict__["apply"]

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if any(
            isinstance(x, RowTensor) for x in tree_leaves((args, kwargs), is_leaf=lambda x: isinstance(x, RowTensor))
        ):
            raise UnsplittableError(
                f"{cls.__module__}.{cls.__qualname__}, a torch.autograd.Function, has no exact rule for tensors whose "
                "rows are split over ranks. Use PyTorch's operations (checkpoint with use_reentrant=False), a "
                "model without it, or a strategy that leaves the rows of an image together."
            )
        return plain.__get__(None, cls)(*args, **kwargs)

    Function.apply = classmethod(apply)
    try:
        yield
    finally:
        Function.apply = plain


def _check_output(output: Any) -> None:
    for leaf in tree_leaves(output, is_leaf=lambda x: isinstance(x, RowTensor)):
        if isinstance(leaf, RowTensor):
            check_settled(leaf)
        if isinstance(leaf, Tensor):
            raise UnsplittableError(
                f"its output {tuple(leaf.shape)} is the same on all ranks and no map of rows. Choose a model that "
                "gives a map, or a strategy that leaves the rows of an image together."
            )


@contextmanager
def _telling(
    net: nn.Module, running: list[tuple[str, nn.Module]], size: tuple[int, int], num_ranks: int
) -> Iterator[None]:
    """Says of an error which net and which module raised it, and at what size."""
    running.clear()
    try:
        yield
    except Exception as error:  # whatever a net's own code raises on tensors that it does not expect
        name, module = running[-1] if running else ("", net)
        where = f" in {name} ({type(module).__name__})" if name else ""
        title = getattr(net, "architecture", type(net).__name__)
        said = f"{title} with the rows of {size[0]}x{size[1]} images split over {num_ranks} ranks{where}: "
        if isinstance(error, ValueError):
            if isinstance(error, UnsplittableError):
                raise UnsplittableError(f"{said}{error} strategy=ddp and fsdp take any model.") from error
            raise ValueError(f"{said}{error}") from error
        raise UnsplittableError(
            f"{said}it looks at values, or at more than shapes, before they are known ({error}). Choose a model "
            "without that, or a strategy that leaves the rows of an image together (strategy=ddp, fsdp, model_sharded)."
        ) from error
