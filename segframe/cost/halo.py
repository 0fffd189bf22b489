"""The fewest rows that ranks must exchange where they share the rows of images, from what each operation looks at.

Counted from a net's own operations on tensors without data, apart from the code that does the exchange. Which rows of
its input a row of an output depends on is found by giving the operation maps of one column with a single 1.
Shape suffixes: B batch, C channels, H rows, W columns, O rows of an output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from segframe.contracts import SegmentationOutput, Span


class Exchanged(NamedTuple):
    """Bytes that a rank sends in both passes of a micro-batch, mean over the ranks of an image.

    Attributes:
        rows: Those of other ranks' rows that its own outputs depend on, and their gradients, layer by layer.
        pooled: What is summed over all rows of an image, and its gradient, each by a ring all-reduce.
    """

    rows: int
    pooled: int


def exchanged(twin: nn.Module, image_BCHW: Tensor, ranks: int) -> Exchanged:
    """Returns what must be exchanged for a training pass over whole images.

    Args:
        twin: The net in training mode, on the device ``meta``.
        image_BCHW: A micro-batch of one group of ranks, on ``meta`` too.
        ranks: How many share the rows of these images.
    """
    watch = _Watch(ranks)
    setattr(image_BCHW, _SPLIT, True)
    with watch, torch.enable_grad():
        output = twin(image_BCHW)
        assert isinstance(output, SegmentationOutput)
        output.at_size(*image_BCHW.shape[-2:])
    return Exchanged(watch.rows // ranks, watch.pooled // ranks)


_SPLIT = "rows_are_split"


class _Watch(TorchFunctionMode):
    """Counts bytes over all ranks while a net runs."""

    def __init__(self, ranks: int) -> None:
        super().__init__()
        self.rows = self.pooled = 0
        self._ranks = ranks

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        split = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor) and getattr(x, _SPLIT, False)]
        if not split:
            return result
        made = [x for x in tree_leaves(result) if isinstance(x, Tensor) and x.dim() == 4]
        name = getattr(func, "__name__", "")
        if name in _POOLS_ALL:
            self.pooled += sum(_bytes(x) * _passes(split[0]) for x in made) * 2 * (self._ranks - 1)
            return result
        if name in _LOOKS_AT:
            given = split[0]
            seen = _LOOKS_AT[name](given.shape[2], made[0].shape[2], args, kwargs)
            self.rows += _missing(seen, self._ranks) * _bytes(given) // given.shape[2] * _passes(given)
        for x in made:
            setattr(x, _SPLIT, True)
        return result


_POOLS_ALL = {"adaptive_avg_pool2d", "adaptive_max_pool2d", "pool_to_grids", "mean", "sum", "amax"}


def _bytes(x: Tensor) -> int:
    return x.numel() * x.element_size()


def _passes(x: Tensor) -> int:
    """Returns in how many passes a map's rows cross: its gradient takes the way back, where it needs one."""
    return 2 if x.requires_grad else 1


def _missing(seen_OH: Tensor, ranks: int) -> int:
    """Returns how many rows the ranks need of each other, summed over them."""
    outputs, height = seen_OH.shape
    total = 0
    for rank in range(ranks):
        mine, own = Span.part(outputs, rank, ranks), Span.part(height, rank, ranks)
        needed = seen_OH[mine.start : mine.stop].any(0)
        needed[own.start : own.stop] = False
        total += int(needed.sum())
    return total


def _pair(value: Any) -> tuple[int, int]:
    return (value[0], value[-1]) if isinstance(value, list | tuple) else (value, value)


def _columns(height: int) -> Tensor:
    """Returns as many maps of one column as it has rows; each has a single 1."""
    return torch.eye(height).view(height, 1, height, 1)


@lru_cache(maxsize=1024)
def _seen(height: int, outputs: int, name: str, options: tuple[tuple[str, Any], ...]) -> Tensor:
    """Returns (O, H): whether a row of the output depends on a row of the input."""
    given: dict[str, Any] = dict(options)
    taps = given.pop("taps", None)
    more = () if taps is None else (torch.ones(1, 1, taps, 1),)
    made = getattr(F, name)(_columns(height), *more, **given)
    assert made.shape[2] == outputs, f"{name} makes {outputs} rows of {height}, and a column of it {made.shape[2]}"
    seen: Tensor = made[..., 0].flatten(1).ne(0).T
    return seen


def _convolution(height: int, outputs: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    given: dict[str, Any] = {"stride": 1, "padding": 0, "dilation": 1} | dict(zip(names, args, strict=False)) | kwargs
    padding = given["padding"] if isinstance(given["padding"], str) else (_pair(given["padding"])[0], 0)
    options = {
        "taps": given["weight"].shape[2],
        "stride": (_pair(given["stride"])[0], 1),
        "padding": padding,
        "dilation": (_pair(given["dilation"])[0], 1),
    }
    return _seen(height, outputs, "conv2d", tuple(options.items()))


def _transposed(height: int, outputs: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    names = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
    given: dict[str, Any] = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1}
    given |= dict(zip(names, args, strict=False)) | kwargs
    rows = {key: (_pair(given[key])[0], 1 if key in ("stride", "dilation") else 0) for key in given if key in names[3:]}
    rows.pop("groups", None)
    return _seen(height, outputs, "conv_transpose2d", (("taps", given["weight"].shape[2]), *rows.items()))


def _pooling(name: str) -> Callable[..., Tensor]:
    last = ("ceil_mode", "count_include_pad") if name == "avg_pool2d" else ("dilation", "ceil_mode")
    names = ("input", "kernel_size", "stride", "padding", *last)

    def look(height: int, outputs: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        given = dict(zip(names, args, strict=False)) | kwargs
        kernel = _pair(given["kernel_size"])[0]
        options: dict[str, Any] = {
            "kernel_size": (kernel, 1),
            "stride": (_pair(given.get("stride") or kernel)[0], 1),
            "padding": (_pair(given.get("padding", 0))[0], 0),
            "ceil_mode": bool(given.get("ceil_mode", False)),
        }
        if name == "max_pool2d":
            options["dilation"] = (_pair(given.get("dilation", 1))[0], 1)
        return _seen(height, outputs, name, tuple(options.items()))

    return look


def _resizing(height: int, outputs: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    names = ("input", "size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias")
    given = dict(zip(names, args, strict=False)) | kwargs
    options = {key: given[key] for key in names[3:] if given.get(key) is not None}
    if given.get("size") is not None:
        options["size"] = (_pair(given["size"])[0], 1)
    else:
        options["scale_factor"] = (float(_pair(given["scale_factor"])[0]), 1.0)
    return _seen(height, outputs, "interpolate", tuple(options.items()))


def _unpooling(height: int, outputs: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    return torch.arange(outputs)[:, None] // 2 == torch.arange(height)[None]


def _pooling_of_two(height: int, outputs: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    return torch.arange(outputs)[:, None] == torch.arange(height)[None] // 2


_LOOKS_AT: dict[str, Callable[..., Tensor]] = {
    "conv2d": _convolution,
    "conv_transpose2d": _transposed,
    "max_pool2d": _pooling("max_pool2d"),
    "max_pool2d_with_indices": _pooling("max_pool2d"),
    "avg_pool2d": _pooling("avg_pool2d"),
    "interpolate": _resizing,
    "max_pool_with_mask": _pooling_of_two,
    "max_unpool": _unpooling,
}
