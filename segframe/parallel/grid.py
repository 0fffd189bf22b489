"""Ranks as a grid with named axes, and the process groups along them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from datetime import timedelta

import torch.distributed as dist
from torch.distributed import ProcessGroup


class Grid:
    """All ranks in a grid; the last axis counts fastest, so its ranks are neighbours on one machine.

    Args:
        sizes: The number of ranks along each axis, by its name.
        rank: This rank.
        timeout: Of the groups' operations.

    Raises:
        ValueError: If the rank has no place in the grid.
    """

    def __init__(self, sizes: Mapping[str, int], rank: int, timeout: timedelta) -> None:
        self.sizes = dict(sizes)
        if not 0 <= rank < self.num_ranks:
            raise ValueError(f"rank={rank} has no place in a grid of {self}; expected 0 to {self.num_ranks - 1}.")
        self.rank = rank
        self.timeout = timeout

    def __str__(self) -> str:
        """Returns the axes that are split, such as ``data 2 x spatial 2``."""
        return " x ".join(f"{axis} {size}" for axis, size in self.sizes.items() if size > 1) or "1 rank"

    @property
    def num_ranks(self) -> int:
        """The number of all ranks."""
        return math.prod(self.sizes.values())

    def place(self, rank: int) -> dict[str, int]:
        """Returns a rank's number along each axis."""
        found = {}
        for axis in reversed(self.sizes):
            rank, found[axis] = divmod(rank, self.sizes[axis])
        return {axis: found[axis] for axis in self.sizes}

    def index(self, *axes: str) -> int:
        """Returns this rank's number among those that differ from it along some axes only."""
        return self._number(self.place(self.rank), axes)

    def size(self, *axes: str) -> int:
        """Returns how many ranks differ along some axes only."""
        return math.prod(self.sizes[axis] for axis in axes)

    def group(self, *axes: str) -> ProcessGroup:
        """Returns a new process group of the ranks that differ from this one along some axes only.

        Every rank calls it, in the same order (*collective*).
        """
        parts: dict[tuple[int, ...], list[int]] = {}
        for rank in range(self.num_ranks):
            place = self.place(rank)
            parts.setdefault(tuple(place[axis] for axis in self.sizes if axis not in axes), []).append(rank)
        made = [(ranks, dist.new_group(ranks, timeout=self.timeout)) for ranks in parts.values()]
        mine = next(group for ranks, group in made if self.rank in ranks)
        assert isinstance(mine, ProcessGroup)
        return mine

    def _number(self, place: Mapping[str, int], axes: tuple[str, ...]) -> int:
        number = 0
        for axis in itertools.filterfalse(lambda axis: axis not in axes, self.sizes):
            number = number * self.sizes[axis] + place[axis]
        return number
