"""What shared BatchNorm is said to send is what the kernel has counted."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segframe.cost import sockets
from segframe.cost.statistics_bytes import statistics_bytes
from segframe.parallel.batch_norm import share_batch_norm


def said_and_counted(rank, size, dtype):
    net = nn.Sequential(nn.BatchNorm2d(20_000), nn.BatchNorm2d(20_000, affine=False)).to(dtype)
    alone = statistics_bytes(net, num_micro_batches=1)
    share_batch_norm(net)
    before = sockets.sent(store_port=0)
    for _ in range(3):
        net(torch.rand(2, 20_000, 1, 1, dtype=dtype, requires_grad=True)).sum().backward()
    return alone, statistics_bytes(net, num_micro_batches=3), (sockets.sent(store_port=0) - before).to_ranks


@pytest.mark.skipif(sockets.why_not() is not None, reason=str(sockets.why_not()))
@pytest.mark.parametrize(("size", "dtype"), [(2, torch.float32), (3, torch.float32), (2, torch.float64)])
def test_the_formula_is_what_is_sent(on_ranks, size, dtype):
    for alone, said, counted in on_ranks(size, said_and_counted, dtype):
        assert alone == 0
        assert counted == pytest.approx(said, rel=0.01)
