"""Padding of tensors whose rows are split over ranks: by a value, or by the map's own rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from segframe.parallel.rows.exchange import fetch
from segframe.parallel.rows.tensor import RowTensor, UnsplittableError, rule


@rule(F.pad)
def pad(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Adds rows and columns, or takes some away where a number is negative."""
    return _pad(*args, **kwargs)


def _pad(x: RowTensor, pad: Any, mode: str = "constant", value: float | None = None) -> RowTensor:
    columns, (above, below), rest = list(pad[:2]), (*pad[2:4], 0, 0)[:2], list(pad[4:])
    height = x.height + above + below
    x.rows.check(height, "F.pad")
    if mode == "constant":
        fill = 0.0 if value is None else value
        local = F.pad(x.local, (*columns, 0, 0, *rest), value=fill) if any(columns) or any(rest) else x.local
        need = [(first - above, stop - above) for first, stop in x.rows.spans(height)]
        padded = fetch(local, x.rows.spans(x.height), need, x.rows, fill)
        return x.like(padded.clone() if padded is x.local else padded, height)  # as torch, which gives no view
    local = F.pad(x.local, (*columns, 0, 0), mode=mode) if any(columns) else x.local
    sources = _sources(mode, x.height, above, below)
    parts = [sources[first:stop] for first, stop in x.rows.spans(height)]
    need = [(int(part.min()), int(part.max()) + 1) for part in parts]
    fetched, own = fetch(local, x.rows.spans(x.height), need, x.rows), parts[x.rows.rank] - need[x.rows.rank][0]
    return x.like(fetched.index_select(2, own.to(fetched.device)), height)


def _sources(mode: str, height: int, above: int, below: int) -> Tensor:
    """Returns the row that each row of the result is a copy of."""
    place = torch.arange(-above, height + below)
    if mode == "replicate":
        return place.clamp(0, height - 1)
    if max(above, below) > (height - 1 if mode == "reflect" else height):
        raise ValueError(f"F.pad with mode={mode!r} got {above} and {below} rows to add to {height}; too many.")
    if mode == "reflect":
        place = place.abs()
        return torch.where(place >= height, 2 * (height - 1) - place, place)
    if mode == "circular":
        return place % height
    raise UnsplittableError(f"F.pad with mode={mode!r} has no exact rule for rows that are split over ranks.")
