"""Dropout on several ranks: drawn as one process draws it, or independently on each rank."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from segframe.parallel.changed_class import Added, change_class, qualified_names


def share_randomness(net: nn.Module, rank: int, size: int) -> list[str]:
    """Makes what is random inside a net fit ranks that are all seeded alike before each micro-batch.

    What drops whole channels or paths of an image (Dropout1d to 3d, DropPath, EfficientNet's
    drop-connect) draws for the images of all ranks and takes those of its own, so that the ranks
    together drop what one process drops. Dropout, which draws a number for every element, does so on up to
    eight ranks: beyond, drawing for all of them would cost more than it is worth. There, and in AlphaDropout,
    FeatureAlphaDropout and DropBlock2d, each rank draws for itself: as random as in one process, but not the
    same numbers. Parameters, buffers and their names stay as they are, and so does evaluation.

    Args:
        net: Changed in place; one rank alone changes nothing.
        rank: This rank has images ``rank * b`` to ``(rank + 1) * b`` of each global micro-batch.
        size: Ranks that share the batch; each has the same number b of images.

    Returns:
        The names of the modules that were changed.

    Raises:
        ValueError: If the rank is not one of ``size``.
    """
    if not 0 <= rank < size:
        raise ValueError(f"rank={rank} of size={size}; expected 0 to {size - 1}.")
    names = []
    for name, module in net.named_modules() if size > 1 else ():
        added = next((_KINDS[kind] for kind in qualified_names(type(module)) if kind in _KINDS), None)
        if added is not None:
            change_class(module, added)
            shared = cast(_Shared, module)
            shared.rank, shared.size = rank, size
            names.append(name)
    return names


class _Shared(Added, nn.Module):
    """A module that knows which part of the global micro-batch it gets."""

    rank: int
    size: int

    def _factors(self, x: Tensor, draw: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns what a drawing does to ones of all ranks' images, for this rank's; it broadcasts against x."""
        ones = x.new_ones((self.size * len(x), *x.shape[1:2], *[1] * (x.dim() - 2)))
        return draw(ones)[self.rank * len(x) : (self.rank + 1) * len(x)]


class DrawnForAll(_Shared):
    """Multiplies images by factors that it draws for the images of all ranks."""

    def forward(self, x: Tensor) -> Tensor:
        """Drops of this rank's images what one process drops of them.

        Raises:
            ValueError: If the input is an image without a batch axis.
        """
        draw: Callable[[Tensor], Tensor] = super().forward
        if not (self.training and _probability(self)):
            return draw(x)
        kind = self.made_of[1]
        if x.dim() < _LEAST_AXES.get(kind, 1):
            raise ValueError(
                f"{kind.__name__} got an input of shape {tuple(x.shape)}; where ranks share a batch it needs at least "
                f"{_LEAST_AXES[kind]} axes, of which the first is the batch."
            )
        return x * self._factors(x, draw)


class DrawnForItself(_Shared):
    """Draws from a random stream of this rank's own, which the common seed decides."""

    def forward(self, x: Tensor) -> Tensor:
        """Drops as the class behind it does; the common random stream moves on by as much on every rank."""
        forward: Callable[[Tensor], Tensor] = super().forward
        return self._drawn(x, forward) if self.training and _probability(self) else forward(x)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _drawn(self, x: Tensor, forward: Callable[[Tensor], Tensor]) -> Tensor:
        with _own_stream(x.device, self.rank):
            return forward(x)


class ElementsForAll(DrawnForItself):
    """Multiplies elements by factors that it draws for those of all ranks, where these are few."""

    def _drawn(self, x: Tensor, forward: Callable[[Tensor], Tensor]) -> Tensor:
        if self.size > _FEW_RANKS or x.dim() == 0:
            alone: Tensor = super()._drawn(x, forward)
            return alone
        # Numbers are drawn in the order of memory, so all ranks' factors lie as one process's would.
        layout = torch.channels_last if _is_channels_last(x) else torch.contiguous_format
        everything = torch.ones((self.size * len(x), *x.shape[1:]), dtype=x.dtype, device=x.device).contiguous(
            memory_format=layout
        )
        factors: Tensor = forward(everything)
        return x * factors[self.rank * len(x) : (self.rank + 1) * len(x)]


class DropConnectForAll(_Shared):
    """EfficientNet's block of segmentation-models-pytorch, whose drop-connect is no module."""

    # Hides the block's own value, so that its forward pass ends before drop-connect and the skip connection.
    _has_drop_connect = property(lambda self: False)

    def forward(self, inputs: Tensor, drop_connect_rate: float | None = None) -> Tensor:
        """Drops of this rank's images the paths that one process drops."""
        x: Tensor = super().forward(inputs)
        if not self.__dict__["_has_drop_connect"]:
            return x
        if self.training and drop_connect_rate:
            drop_connect = sys.modules[self.made_of[1].__module__].drop_connect
            factors = self._factors(x, lambda ones: drop_connect(ones, drop_connect_rate, True))
            x = x / (1 - drop_connect_rate) * (factors > 0)
        return x + inputs


_KINDS: dict[str, type[_Shared]] = {
    "torch.nn.modules.dropout.Dropout1d": DrawnForAll,
    "torch.nn.modules.dropout.Dropout2d": DrawnForAll,
    "torch.nn.modules.dropout.Dropout3d": DrawnForAll,
    "timm.layers.drop.DropPath": DrawnForAll,
    "torchvision.ops.stochastic_depth.StochasticDepth": DrawnForAll,
    "segmentation_models_pytorch.encoders._efficientnet.MBConvBlock": DropConnectForAll,
    "torch.nn.modules.dropout.Dropout": ElementsForAll,
    "torch.nn.modules.dropout.AlphaDropout": DrawnForItself,
    "torch.nn.modules.dropout.FeatureAlphaDropout": DrawnForItself,
    "timm.layers.drop.DropBlock2d": DrawnForItself,
}
_FEW_RANKS = 8
_LEAST_AXES: dict[type, int] = {nn.Dropout1d: 3, nn.Dropout2d: 3, nn.Dropout3d: 5}


def _is_channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def _probability(module: Any) -> float:
    value: float = module.p if hasattr(module, "p") else module.drop_prob
    return value


@contextmanager
def _own_stream(device: torch.device, rank: int) -> Iterator[None]:
    """Gives a device the random stream of a rank for as long as this lasts."""
    seed = int(torch.randint(2**62, (), device="cpu"))
    on_cpu = device.type == "cpu"
    generator = torch.default_generator if on_cpu else torch.get_device_module(device).default_generators[device.index]
    state = generator.get_state()
    generator.manual_seed(seed + rank)
    try:
        yield
    finally:
        generator.set_state(state)
