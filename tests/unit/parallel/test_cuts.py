"""Where a net is cut: balanced, by hand, and what is refused."""

import itertools
import random

import pytest
import torch
from torch import nn

from segframe.contracts import SegmentationOutput
from segframe.models.segnet_basic import SegNetBasic
from segframe.models.tiny import Tiny
from segframe.parallel.cuts import balanced, cut, stage_costs


def test_the_largest_part_is_as_small_as_any_way_of_cutting_makes_it():
    choose = random.Random(0)
    for _ in range(60):
        costs = [choose.randrange(20) for _ in range(choose.randrange(2, 8))]
        parts = choose.randrange(1, len(costs) + 1)
        ways = [(0, *rest) for rest in itertools.combinations(range(1, len(costs)), parts - 1)]
        worst = {starts: max(sum(costs[a:b]) for a, b in itertools.pairwise((*starts, len(costs)))) for starts in ways}
        assert worst[balanced(costs, parts)] == min(worst.values())
        forbidden = {choose.randrange(1, len(costs))}
        allowed = [value for starts, value in worst.items() if not forbidden & set(starts)]
        found = balanced(costs, parts, forbidden)
        assert (found is None) == (not allowed)
        assert found is None or (worst[found] == min(allowed) and not forbidden & set(found))


def test_costs_are_those_of_the_convolutions():
    stem, body, head = stage_costs(Tiny(5))
    assert stem == 2 * 2 * 64 * 64 * 3 * 16 * 9
    assert (body, head) == (stem * 16 * 32 // (3 * 16), stem * 32 * 5 // (3 * 16))


def test_cuts_by_number_and_by_module():
    net = SegNetBasic(5, width=4)
    assert cut(net, 3, [2, 5]).starts == (0, 2, 5)
    assert cut(net, 3, ["encoders.2", "decoders.1"]).starts == (0, 2, 5)
    lines = cut(net, 2).lines("rank")
    assert lines[0].startswith("rank 0: stage")
    assert "of the arithmetic" in lines[0]
    assert sum(cut(net, 2).sizes) == sum(p.numel() for p in net.parameters())


class Tied(nn.Module):
    """Uses one convolution in its second and its third stage."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = (nn.Conv2d(3, 3, 1) for _ in range(3))

    @property
    def stages(self):
        return nn.Sequential(self.a), nn.Sequential(self.b), nn.Sequential(self.b), Head(self.head)


class Head(nn.Module):
    def __init__(self, conv) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x):
        return SegmentationOutput(self.conv(x))


def test_what_shares_a_parameter_stays_together():
    assert 2 not in cut(Tied(), 3).starts
    with pytest.raises(ValueError, match=r"parts stages 1 and 2 \(b and b\), which share a parameter"):
        cut(Tied(), 2, [2])
    with pytest.raises(ValueError, match="can't cut Tied into 4 parts"):
        cut(Tied(), 4)


@pytest.mark.parametrize(
    ("net", "parts", "cuts", "message"),
    [
        (nn.Conv2d(3, 3, 1), 2, "auto", "Conv2d names none; use strategy=fsdp"),
        (Tiny(5), 4, "auto", "4 ranks for the 3 stages of Tiny; use trainer.devices=3"),
        (Tiny(5), 2, [1, 2], r"must name 1 stage\(s\) for 2 ranks"),
        (Tiny(5), 3, [2, 1], "rising from 1 to 2"),
        (Tiny(5), 2, [3], "rising from 1 to 2"),
        (Tiny(5), 2, ["neck"], "'neck', which no stage has; the stages are: stem.0, body.0, head.classifier"),
    ],
)
def test_refused_with_what_fits(net, parts, cuts, message):
    with pytest.raises(ValueError, match=message):
        cut(net, parts, cuts)


def test_a_net_that_cannot_run_without_data_asks_for_cuts():
    class Looks(nn.Module):
        def forward(self, x):
            return x * float(x.sum())

    net = Tied()
    net.look = Looks()
    type(net).stages = property(lambda self: (nn.Sequential(self.a), self.look, nn.Sequential(self.b), Head(self.head)))
    with pytest.raises(ValueError, match=r"what stage 1 of Tied computes.*strategy.cuts=\[...\]"):
        cut(net, 2)
    assert cut(net, 2, [1]).starts == (0, 1)
    assert torch.is_tensor(net.a.weight)
