"""Whole nets on split rows; scripts/spatial_table.py does so for all of them."""

import pytest
import torch
import torch.distributed as dist

from scripts.spatial_table import build, difference
from segframe.parallel.rows import Rows

NETS = [("segnet_basic", "", 19), ("fpn", "mobilenet_v2", 96)]


def on_rank(rank, size):
    alone = [dist.new_group([r]) for r in range(size)][rank]
    return {(n, e): difference(build(n, e), height, 40, Rows(rank, size), alone) for n, e, height in NETS}


def test_equal_one_process(on_ranks):
    for found in on_ranks(2, on_rank):
        assert all(largest < 1e-11 for largest in found.values()), found


def of_constants(rank, size):
    net = build("tiny", "")
    for parameter in net.parameters():
        torch.nn.init.zeros_(parameter)
    with pytest.raises(ValueError, match="is constant"):
        difference(net, 16, 16, Rows(0, 1), None)


def test_a_comparison_of_constants_is_refused(on_ranks):
    on_ranks(1, of_constants)
