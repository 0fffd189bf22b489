"""The reduce-scatter over gloo gives each rank its part of the sum and sends half of what an all-reduce sends."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from segframe.cost import sockets
from segframe.parallel.reduce_scatter import AllToAllReduceScatter


def reduced(rank, size, op):
    inputs = [torch.arange(4 * size, dtype=torch.float64) ** (r + 1) for r in range(size)]
    output = torch.empty(4, dtype=torch.float64)
    AllToAllReduceScatter()(output, inputs[rank], dist.group.WORLD, op)
    return output, torch.stack(inputs).sum(0)[4 * rank : 4 * rank + 4]


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(("op", "divisor"), [(dist.ReduceOp.SUM, 1), (dist.ReduceOp.AVG, "size")])
def test_every_rank_has_its_part_of_the_sum_or_mean(on_ranks, size, op, divisor):
    for output, expected in on_ranks(size, reduced, op):
        assert torch.equal(output, expected / (size if divisor == "size" else 1))


def refused(rank, size):
    with pytest.raises(ValueError, match="summed or averaged"):
        AllToAllReduceScatter()(torch.empty(1), torch.empty(size), dist.group.WORLD, dist.ReduceOp.MAX)
    return True


def test_another_reduction_is_refused(on_ranks):
    assert on_ranks(2, refused) == [True, True]


def traffic(rank, size):
    values, part, found = torch.ones(size * 100_000), torch.empty(100_000), []
    own = AllToAllReduceScatter()
    for reduce in (dist.reduce_scatter_tensor, lambda out, x: own(out, x, dist.group.WORLD, dist.ReduceOp.SUM)):
        before = sockets.sent(store_port=0)
        reduce(part, values)
        dist.barrier()
        found.append((sockets.sent(store_port=0) - before).to_ranks / values.nbytes)
    return found


@pytest.mark.skipif(sockets.why_not() is not None, reason=str(sockets.why_not()))
@pytest.mark.parametrize("size", [2, 3])
def test_it_sends_what_must_be_sent(on_ranks, size):
    for theirs, ours in on_ranks(size, traffic):
        assert ours == pytest.approx((size - 1) / size, rel=0.01)
        assert theirs > 1.9 * ours, "gloo has a reduce-scatter of its own by now: this one is not needed"
