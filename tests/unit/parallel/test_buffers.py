"""Buffers that have become different on ranks."""

from __future__ import annotations

import torch

from segframe.parallel.buffers import take_from_rank_0


def different(rank, size):
    torch.manual_seed(0)
    buffers = {
        "same": torch.randn(5),
        "mean": torch.randn(4) + rank,
        "turned": torch.tensor([1.0, 2.0]).roll(rank),
        "count": torch.tensor(3 + rank),
        "flags": torch.tensor([True, rank == 0]),
        "phase": torch.tensor([1 + 1j * rank]),
        "gaps": torch.randn(6, 4).t()[:, ::2] * (1 + rank),
        "wild": torch.tensor([float("nan")]),
        "none": torch.zeros(0),
    }
    return take_from_rank_0(buffers, torch.device("cpu")), buffers


def test_every_rank_gets_rank_0s(on_ranks):
    (names, own), (others_names, others) = on_ranks(2, different)
    assert names == others_names == ["mean", "turned", "count", "flags", "phase", "gaps"]
    for name, value in own.items():
        assert torch.equal(value, others[name]) or name == "wild", name
    assert own["turned"].tolist() == [1.0, 2.0]


def rounded(rank, size):
    return take_from_rank_0({"mean": torch.full((1000,), 0.1) * (1 + 1e-7 * rank)}, torch.device("cpu"))


def test_rounding_is_no_difference(on_ranks):
    assert on_ranks(2, rounded) == [[], []]


def test_nothing_is_sent_without_buffers():
    assert take_from_rank_0({}, torch.device("cpu")) == []
