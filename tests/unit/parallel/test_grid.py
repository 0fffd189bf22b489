from datetime import timedelta

import pytest
import torch.distributed as dist

from segframe.parallel.grid import Grid

SIZES = {"data": 2, "fsdp": 1, "spatial": 3}


def grid(rank):
    return Grid(SIZES, rank, timedelta(seconds=20))


def test_the_last_axis_counts_fastest():
    assert [tuple(grid(0).place(rank).values()) for rank in range(6)] == [
        (0, 0, 0), (0, 0, 1), (0, 0, 2), (1, 0, 0), (1, 0, 1), (1, 0, 2)
    ]  # fmt: skip
    assert [(grid(r).index("data"), grid(r).index("spatial"), grid(r).index("data", "spatial")) for r in (0, 2, 4)] == [
        (0, 0, 0), (0, 2, 2), (1, 1, 4)
    ]  # fmt: skip
    assert (grid(0).size("data", "fsdp"), grid(0).num_ranks, str(grid(0))) == (2, 6, "data 2 x spatial 3")
    assert grid(5).index() == 0


def test_a_rank_outside_is_refused():
    with pytest.raises(ValueError, match=r"rank=6 has no place in a grid of data 2 x spatial 3; expected 0 to 5"):
        grid(6)


def groups(rank, size):
    own = Grid({"data": 2, "spatial": 2}, rank, timedelta(seconds=20))
    return [
        dist.get_process_group_ranks(own.group(*axes)) for axes in (("data",), ("spatial",), (), ("data", "spatial"))
    ]


def test_groups_are_the_ranks_along_axes(on_ranks):
    assert on_ranks(4, groups) == [
        [[0, 2], [0, 1], [0], [0, 1, 2, 3]],
        [[1, 3], [0, 1], [1], [0, 1, 2, 3]],
        [[0, 2], [2, 3], [2], [0, 1, 2, 3]],
        [[1, 3], [2, 3], [3], [0, 1, 2, 3]],
    ]
