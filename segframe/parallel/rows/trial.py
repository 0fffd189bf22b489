"""Whether a net can run on split rows, found out before training: on tensors without data, on no other rank."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from segframe.parallel.rows.group import Rows
from segframe.parallel.rows.tensor import RowTensor, UnsplittableError
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
    twin = twin_of(net)
    images = image_for(twin).new_empty((2, image_for(twin).shape[1], height, width))
    running = _follow(twin)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        # Rules refuse by global numbers, so that all ranks do alike; the first and the last one differ most.
        for training, place in ((True, 0), (False, num_ranks - 1)):
            twin.train(training)
            with _telling(net, running, (height, width), num_ranks):
                _check_output(twin(RowTensor.of(images, Rows(place, num_ranks))))


def _follow(twin: nn.Module) -> list[tuple[str, nn.Module]]:
    """Returns a list that will hold the modules that are being called, outermost first."""
    running: list[tuple[str, nn.Module]] = []
    for name, module in twin.named_modules():
        module.register_forward_pre_hook(lambda m, _, name=name: running.append((name, m)))
        module.register_forward_hook(lambda *_: _end(running))
    return running


def _end(running: list[tuple[str, nn.Module]]) -> None:
    running.pop()


def _check_output(output: Any) -> None:
    for leaf in tree_leaves(output, is_leaf=lambda x: isinstance(x, RowTensor)):
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
