from __future__ import annotations

import pytest

from segframe.ranks import Place, is_main_process, place

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK")


def set_place(monkeypatch, *values):
    for name, value in zip(VARIABLES, values, strict=True):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ((None, None, None, None, None), Place(0, 1, 0, 1, 0)),
        ((5, 8, 1, 4, 1), Place(5, 8, 1, 4, 1)),
        ((1, 2, None, None, None), Place(1, 2, 1, 2, 0)),  # RANK and WORLD_SIZE alone: one machine
        ((5, 8, None, 4, None), Place(5, 8, 1, 4, 1)),
        ((None, 8, 3, 4, 1), Place(0, 1, 0, 1, 0)),  # left over from another program
    ],
)
def test_a_place_is_read_from_what_torchrun_sets(monkeypatch, values, found):
    set_place(monkeypatch, *values)
    assert place() == found
    assert is_main_process() == (found.rank == 0)


@pytest.mark.parametrize(("rank", "size"), [(1, None), (2, 2), (-1, 2)])
def test_a_rank_that_is_none_of_the_world_is_left_over(monkeypatch, rank, size):
    set_place(monkeypatch, rank, size, None, None, None)
    with pytest.raises(ValueError, match=f"RANK={rank} in the environment is none of WORLD_SIZE={size or 1}.*unset"):
        place()


def test_a_number_that_is_none_is_named(monkeypatch):
    set_place(monkeypatch, "first", 2, 0, 2, 0)
    with pytest.raises(ValueError, match=r"RANK='first'.*whole number"):
        place()
