"""From the rows that each rank owns to the rows that each rank needs.

Both are pure functions of global numbers, so that no rank has to ask another one what it needs. Halos, strides
and another split are all the same exchange with other needs; its backward pass is the transposed one, added.
Shape suffixes: B batch, C channels, H this rank's rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from segframe.parallel.rows.group import Range, Rows

Ranges = Sequence[Range] | Callable[[int], Range]
"""Rows of each rank, as a list or as a function of the rank."""


def fetch(x_BCHW: Tensor, have: Ranges, need: Ranges, rows: Rows, fill: float = 0.0) -> Tensor:
    """Returns the rows that this rank needs of a map whose rows are split over ranks; differentiable.

    All ranks call it with the same numbers. Point-to-point messages alone run, none where nothing is needed.

    Args:
        x_BCHW: The rows that this rank has.
        have: The rows that each rank has, without overlaps, in the numbers of the whole map.
        need: The rows that each rank needs. They may overlap, be none, and lie outside of the map.
        rows: The ranks.
        fill: The value of rows that nobody has.

    Returns:
        (B, C, number of needed rows, W), in the memory format of ``x_BCHW``.
    """
    plan = plan_exchange(have, need, rows)
    if plan.is_idle:
        return x_BCHW
    fetched: Tensor = _Fetch.apply(x_BCHW, plan, fill)
    return fetched


def plan_exchange(have: Ranges, need: Ranges, rows: Rows) -> Exchange:
    """Returns the messages of a ``fetch``, for a Function that sends them itself.

    Args:
        have: The rows that each rank has.
        need: The rows that each rank needs.
        rows: The ranks.
    """
    had, needed = _listed(have, rows.size), _listed(need, rows.size)
    incoming, outgoing = _messages(had, needed, rows.rank)
    return Exchange(rows, had[rows.rank], needed[rows.rank], incoming, outgoing, had == needed)


@dataclass(frozen=True)
class Exchange:
    """Who sends which rows to whom.

    Attributes:
        rows: The ranks.
        have: The rows that this rank has.
        need: The rows that this rank needs.
        incoming: The rows that come from other ranks: (rank, rows).
        outgoing: The rows that go to other ranks: (rank, rows).
        is_idle: Whether every rank needs just what it has.
    """

    rows: Rows
    have: Range
    need: Range
    incoming: tuple[tuple[int, Range], ...]
    outgoing: tuple[tuple[int, Range], ...]
    is_idle: bool

    @property
    def kept(self) -> Range:
        """The rows that this rank has and needs; the second number is not above the first if there are none."""
        return _common(self.have, self.need)

    def start(self, x_BCHW: Tensor) -> Messages:
        """Starts to send the rows that others need; ``wait`` returns the pieces in the order of ``incoming``."""
        out = [(rank, _cut(x_BCHW, span, self.have[0])) for rank, span in self.outgoing]
        return _start(out, self.incoming, x_BCHW, self.rows)

    def join(self, x_BCHW: Tensor, pieces: Sequence[Tensor], fill: float = 0.0) -> Tensor:
        """Returns the needed rows from the own ones and the pieces that came."""
        first, stop = self.need
        shape = (*x_BCHW.shape[:2], max(0, stop - first), x_BCHW.shape[3])
        layout = memory_format_of(x_BCHW)
        needed = torch.empty(shape, dtype=x_BCHW.dtype, device=x_BCHW.device, memory_format=layout)
        parts = [(self.kept, _cut(x_BCHW, self.kept, self.have[0]))]
        parts += [(span, piece) for (_, span), piece in zip(self.incoming, pieces, strict=True)]
        if sum(max(0, end - begin) for (begin, end), _ in parts) < shape[2]:
            needed.fill_(fill)
        for span, part in parts:
            if span[0] < span[1]:
                _cut(needed, span, first).copy_(part)
        return needed

    def start_back(self, gradient_BCHW: Tensor) -> Messages:
        """Starts to send gradients of needed rows to their owners; ``wait`` returns pieces as in ``outgoing``."""
        out = [(rank, _cut(gradient_BCHW, span, self.need[0])) for rank, span in self.incoming]
        return _start(out, self.outgoing, gradient_BCHW, self.rows)

    def join_back(self, gradient_BCHW: Tensor, pieces: Sequence[Tensor]) -> Tensor:
        """Returns the gradient of the own rows from that of the needed rows and the pieces that came."""
        first, stop = self.have
        shape = (*gradient_BCHW.shape[:2], stop - first, gradient_BCHW.shape[3])
        if self.kept == self.have:
            own = _cut(gradient_BCHW, self.have, self.need[0])
            own = own.clone(memory_format=memory_format_of(gradient_BCHW)) if pieces else own
        else:
            own = gradient_BCHW.new_zeros(shape).to(memory_format=memory_format_of(gradient_BCHW))
            if self.kept[0] < self.kept[1]:
                _cut(own, self.kept, first).copy_(_cut(gradient_BCHW, self.kept, self.need[0]))
        for (_, span), piece in zip(self.outgoing, pieces, strict=True):
            _cut(own, span, first).add_(piece)
        return own


class Messages:
    """Rows under way.

    Args:
        works: What is to be waited for.
        pieces: Where the rows arrive, (B, H, W, C).
        sent: What must stay in memory until it has been sent.
    """

    def __init__(self, works: Sequence[Any], pieces: Sequence[Tensor], sent: Sequence[Tensor]) -> None:
        self._works, self._pieces, self._sent = works, pieces, sent

    def wait(self) -> list[Tensor]:
        """Returns the rows that have come, each (B, C, H, W)."""
        for work in self._works:
            work.wait()
        self._sent = ()
        return [piece.permute(0, 3, 1, 2) for piece in self._pieces]


def memory_format_of(x_BCHW: Tensor) -> torch.memory_format:
    """Returns the order of a map's values in memory, which a slice of its rows has too."""
    channels, height, width = x_BCHW.shape[1:]
    # Of a map of 1 x 1 only the strides of what has one element tell.
    is_last = x_BCHW.stride(1) == 1 and channels > 1 and (height * width > 1 or x_BCHW.stride(3) >= channels)
    return torch.channels_last if is_last else torch.contiguous_format


def _listed(ranges: Ranges, size: int) -> tuple[Range, ...]:
    return tuple(ranges(rank) for rank in range(size)) if callable(ranges) else tuple(ranges)


@lru_cache(maxsize=4096)
def _messages(have: tuple[Range, ...], need: tuple[Range, ...], me: int) -> tuple[tuple[tuple[int, Range], ...], ...]:
    """Returns what comes and what goes: (rank, rows)."""
    others = [rank for rank in range(len(have)) if rank != me]
    incoming = ((rank, _common(have[rank], need[me])) for rank in others)
    outgoing = ((rank, _common(have[me], need[rank])) for rank in others)
    return tuple(tuple((rank, span) for rank, span in way if span[0] < span[1]) for way in (incoming, outgoing))


def _common(a: Range, b: Range) -> Range:
    return max(a[0], b[0]), min(a[1], b[1])


def _cut(x_BCHW: Tensor, span: Range, first: int) -> Tensor:
    """Returns the rows ``span`` of a piece that begins with the row ``first``."""
    return x_BCHW.narrow(2, span[0] - first, span[1] - span[0]) if span[0] < span[1] else x_BCHW[:, :, :0]


def _start(
    out: Sequence[tuple[int, Tensor]], coming: Sequence[tuple[int, Range]], like_BCHW: Tensor, rows: Rows
) -> Messages:
    batch, channels, _, width = like_BCHW.shape
    # Both sides must agree on the order of values, whatever that of their maps is: channels last.
    pieces = [like_BCHW.new_empty((batch, stop - first, width, channels)) for _, (first, stop) in coming]
    if like_BCHW.is_meta or not batch * width * channels:
        return Messages((), pieces, ())
    sent = [part.permute(0, 2, 3, 1).contiguous() for _, part in out]
    operations = [
        dist.P2POp(dist.isend, part, group=rows.group, group_peer=rank)
        for (rank, _), part in zip(out, sent, strict=True)
    ] + [
        dist.P2POp(dist.irecv, piece, group=rows.group, group_peer=rank)
        for (rank, _), piece in zip(coming, pieces, strict=True)
    ]
    return Messages(dist.batch_isend_irecv(operations) if operations else (), pieces, sent)


class _Fetch(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: Exchange, fill: float) -> Tensor:
        ctx.plan = plan
        return plan.join(x, plan.start(x).wait(), fill)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        plan: Exchange = ctx.plan
        return plan.join_back(gradient, plan.start_back(gradient).wait()), None, None
