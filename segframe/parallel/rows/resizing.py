"""Resizing of maps whose rows are split over ranks, and of whole ones to rows that are.

Each row of the result is a sum of a few rows, by weights that are computed as PyTorch computes them, in the same
precision; what lies in other ranks' rows is fetched. Columns are then PyTorch's own kernel's.
Shape suffixes: B batch, C channels, H rows, W columns; T taps, the rows that one row is computed from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from segframe.parallel.rows.exchange import fetch, memory_format_of
from segframe.parallel.rows.group import Range
from segframe.parallel.rows.replicated import Replicated, replicated_rule
from segframe.parallel.rows.tensor import RowTensor, UnsplittableError, rule

_NEAREST = ("nearest", "nearest-exact")


@dataclass(frozen=True)
class _Request:
    """What ``F.interpolate`` is asked for.

    Attributes:
        mode: Nearest, nearest-exact, bilinear or bicubic.
        align_corners: Whether the corner pixels keep their place.
        before: Rows and columns of the input.
        after: Rows and columns of the result.
        factors: The scale factors of rows and columns that sampling goes by; None for the ratio of sizes.
    """

    mode: str
    align_corners: bool
    before: tuple[int, int]
    after: tuple[int, int]
    factors: tuple[float | None, float | None]


def _request(x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Request:
    names = ("input", "size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias")
    given = dict(zip(names, args, strict=False)) | kwargs
    mode = given.get("mode", "nearest")
    if mode not in (*_NEAREST, "bilinear", "bicubic") or given.get("antialias"):
        raise UnsplittableError(
            f"F.interpolate with mode={mode!r}, antialias={bool(given.get('antialias'))} has no exact rule for rows "
            "that are split over ranks; nearest, nearest-exact, bilinear and bicubic without antialias have one."
        )
    before = (int(x.shape[2]), int(x.shape[3]))
    size, factor = given.get("size"), given.get("scale_factor")
    align_corners = bool(given.get("align_corners"))
    if size is not None:
        after = _pair(size, int)
        return _Request(mode, align_corners, before, after, (None, None))
    factors = _pair(factor, float)
    after = (math.floor(before[0] * factors[0]), math.floor(before[1] * factors[1]))
    return _Request(
        mode, align_corners, before, after, (None, None) if given.get("recompute_scale_factor") else factors
    )


def _pair(value: Any, kind: Any) -> tuple[Any, Any]:
    first, second = value if isinstance(value, Sequence) else (value, value)
    return kind(first), kind(second)


@rule(F.interpolate)
def interpolate(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Resizes split rows."""
    x: RowTensor = args[0]
    request = _request(x, args, kwargs)
    height = request.after[0]
    x.rows.check(height, f"F.interpolate from {x.height} rows")
    x = x.like(_as_autocast(x.local, request))
    taps = _taps(request, x.local)
    need = [_needed(taps, span) for span in x.rows.spans(height)]
    fetched = fetch(x.local, x.rows.spans(x.height), need, x.rows)
    return x.like(_resized(fetched, need[x.rows.rank][0], taps, x.rows.own(height), request), height)


@replicated_rule(F.interpolate)
def interpolate_replicated(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Resizes a map that is whole on all ranks: to the own rows alone where there is one for each rank."""
    x, rows = args[0].as_subclass(Tensor), args[0].rows
    is_split = x.dim() == 4 and kwargs.get("mode", "nearest") in (*_NEAREST, "bilinear", "bicubic")
    request = _request(x, args, kwargs) if is_split and not kwargs.get("antialias") else None
    if request is None or request.after[0] < rows.size:
        return Replicated.of(function(x, *args[1:], **kwargs), rows)
    height = request.after[0]
    x = _as_autocast(x, request)
    taps = _taps(request, x)
    first, stop = _needed(taps, rows.own(height))
    local = _resized(x.narrow(2, first, stop - first), first, taps, rows.own(height), request)
    return RowTensor(local, height, rows)


def _as_autocast(x: Tensor, request: _Request) -> Tensor:
    """Returns a map in the type that autocast makes PyTorch resize it in."""
    kind = "cpu" if x.is_meta else x.device.type
    if not torch.is_autocast_enabled(kind):
        return x
    probe = torch.zeros(1, 1, 1, 1, dtype=x.dtype, device=kind)
    return x.to(F.interpolate(probe, size=1, mode=request.mode).dtype)


@rule(F.pixel_shuffle)
def pixel_shuffle(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Turns channels into rows and columns."""
    x: RowTensor = args[0]
    factor = args[1] if len(args) > 1 else kwargs["upscale_factor"]
    height = x.height * factor
    have = [(first * factor, stop * factor) for first, stop in x.rows.spans(x.height)]
    return x.like(fetch(function(x.local, factor), have, x.rows.spans(height), x.rows), height)


@rule(F.pixel_unshuffle)
def pixel_unshuffle(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Turns rows and columns into channels."""
    x: RowTensor = args[0]
    factor = args[1] if len(args) > 1 else kwargs["downscale_factor"]
    if x.height % factor:
        raise ValueError(f"F.pixel_unshuffle got {x.height} rows, which {factor} does not divide.")
    height = x.height // factor
    x.rows.check(height, "F.pixel_unshuffle")
    need = [(first * factor, stop * factor) for first, stop in x.rows.spans(height)]
    return x.like(function(fetch(x.local, x.rows.spans(x.height), need, x.rows), factor), height)


@dataclass(frozen=True, eq=False)
class _Taps:
    """Which rows each row of a result is computed from, and with which weights; on the CPU.

    Attributes:
        index: (T, rows of the result).
        weight: Alike; None where the one tap counts wholly.
        bounds: First and last row that each row reads.
    """

    index: Tensor
    weight: Tensor | None
    bounds: tuple[list[int], list[int]]


def _taps(request: _Request, like: Tensor) -> _Taps:
    is_last = memory_format_of(like) == torch.channels_last
    kind = "cpu" if like.is_meta else like.device.type
    height, out = request.before[0], request.after[0]
    if request.mode in _NEAREST:
        return _nearest_taps(request.mode, height, out, request.factors[0], like.dtype, kind, is_last)
    dtype = torch.promote_types(like.dtype, torch.float32)
    return _linear_taps(request.mode, request.align_corners, height, out, request.factors[0], dtype)


@lru_cache(maxsize=256)
def _nearest_taps(
    mode: str, height: int, out: int, factor: float | None, dtype: torch.dtype, device: str, is_last: bool
) -> _Taps:
    """Asks PyTorch's kernel which row it takes, since each kernel rounds in a way of its own."""
    probe_dtype = torch.promote_types(dtype, torch.float32)
    layout = torch.channels_last if is_last else torch.contiguous_format
    number = torch.arange(height, dtype=probe_dtype, device=device).view(1, 1, height, 1).expand(1, 4, height, 4)
    kernel = torch.ops.aten.upsample_nearest2d if mode == "nearest" else torch.ops.aten._upsample_nearest_exact2d
    index = kernel(number.contiguous(memory_format=layout), [out, 4], factor, None)[0, 0, :, 0].long().cpu()
    return _Taps(index[None], None, (index.tolist(), index.tolist()))


@lru_cache(maxsize=256)
def _linear_taps(
    mode: str, align_corners: bool, height: int, out: int, factor: float | None, dtype: torch.dtype
) -> _Taps:
    """Returns the taps of PyTorch's upsample_bilinear2d and upsample_bicubic2d (UpSample.h), computed as there."""
    place = torch.arange(out, dtype=dtype)
    if mode == "bilinear" and height == out:
        source = place
    elif align_corners:
        scale = torch.tensor(height - 1, dtype=dtype) / (out - 1) if out > 1 else torch.zeros((), dtype=dtype)
        source = place * scale
    else:
        scale = torch.tensor(height, dtype=dtype) / out if factor is None else torch.tensor(1.0 / factor, dtype=dtype)
        source = (place + 0.5) * scale - 0.5
        source = source.clamp_min(0) if mode == "bilinear" else source
    first = source.floor().clamp_max(height - 1)
    ahead = (source - first).clamp(0, 1)
    if mode == "bilinear":
        index, weight = torch.stack((first, first + 1)), torch.stack((1 - ahead, ahead))
    else:
        index, weight = torch.stack([first + tap for tap in (-1, 0, 1, 2)]), _cubic(ahead)
    index = index.long().clamp(0, height - 1)
    return _Taps(index, weight, (index.amin(0).tolist(), index.amax(0).tolist()))


def _cubic(ahead: Tensor) -> Tensor:
    """Returns the weights of four pixels around a place, by Keys' cubic convolution with a = -0.75."""
    a = -0.75

    def near(x: Tensor) -> Tensor:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: Tensor) -> Tensor:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return torch.stack((far(ahead + 1), near(ahead), near(1 - ahead), far(2 - ahead)))


def _needed(taps: _Taps, span: Range) -> Range:
    """Returns the rows that the rows ``span`` of the result read."""
    low, high = taps.bounds
    return min(low[span[0] : span[1]]), max(high[span[0] : span[1]]) + 1


def _resized(x_BCHW: Tensor, first: int, taps: _Taps, span: Range, request: _Request) -> Tensor:
    """Returns the rows ``span`` of a result from the rows that they read, of which the first is ``first``."""
    index = taps.index[:, span[0] : span[1]] - first
    if taps.weight is None:
        return _columns(_picked(x_BCHW, index[0]), request)
    # Rounded once, at the end, as in PyTorch's kernels.
    wide = x_BCHW.to(taps.weight.dtype)
    weight = taps.weight[:, span[0] : span[1], None].to(x_BCHW.device)
    parts = [_picked(wide, index[tap]) * weight[tap] for tap in range(len(index))]
    return _columns(sum(parts[1:], parts[0]), request).to(x_BCHW.dtype)


def _picked(x_BCHW: Tensor, index: Tensor) -> Tensor:
    """Returns rows by their numbers, in the memory format that the map has."""
    index = index.to(x_BCHW.device)
    if memory_format_of(x_BCHW) == torch.channels_last:
        return x_BCHW.permute(0, 2, 3, 1).index_select(1, index).permute(0, 3, 1, 2)
    return x_BCHW.index_select(2, index)


def _columns(x_BCHW: Tensor, request: _Request) -> Tensor:
    """Resizes columns; rows keep their number and so their values."""
    before, after = request.before[1], request.after[1]
    size, factor = [x_BCHW.shape[2], after], request.factors[1]
    ops = torch.ops.aten
    if before == after and (factor is None or factor == 1):
        return x_BCHW
    if request.mode == "nearest":
        result: Tensor = ops.upsample_nearest2d(x_BCHW, size, None, factor)
    elif request.mode == "nearest-exact":
        result = ops._upsample_nearest_exact2d(x_BCHW, size, None, factor)
    elif request.mode == "bilinear":
        result = ops.upsample_bilinear2d(x_BCHW, size, request.align_corners, None, factor)
    else:
        result = ops.upsample_bicubic2d(x_BCHW, size, request.align_corners, None, factor)
    return result
