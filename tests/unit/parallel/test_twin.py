"""What is found out on a copy without data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from segframe.build import _make
from segframe.config.compose import compose
from segframe.contracts import SegmentationOutput
from segframe.parallel.rows.trial import trial
from segframe.parallel.twin import all_learn

MODELS = sorted(p.stem for p in (Path(__file__).parents[3] / "conf/model").glob("*.yaml"))


@pytest.mark.parametrize("model", MODELS)
def test_every_parameter_of_every_model_learns(model):
    assert all_learn(_make(compose([f"model={model}"]).model))


class Net(nn.Module):
    def __init__(self, leaves_out=False, needs_data=False):
        super().__init__()
        self.leaves_out, self.needs_data = leaves_out, needs_data
        self.body, self.head, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.body(x)
        if self.needs_data and float(x.sum()) > 0:
            x = x * 2
        return SegmentationOutput(self.head(x), () if self.leaves_out else (self.second(x),))


def test_parameters_that_are_left_out_are_found():
    assert all_learn(Net())
    assert not all_learn(Net(leaves_out=True))
    assert not all_learn(Net(), auxiliary=False)
    frozen = Net(leaves_out=True)
    frozen.second.requires_grad_(False)
    assert all_learn(frozen)
    assert all_learn(Net().double())


def test_batch_norm_that_averages_all_batches_alike_needs_no_data():
    net = Net()
    net.body = nn.Sequential(net.body, nn.BatchNorm2d(8, momentum=None))
    assert all_learn(net)
    trial(net, 32, 16, 2)  # refuses nothing
    assert net.body[1].momentum is None


def test_nothing_is_promised_of_a_net_that_needs_data():
    assert not all_learn(Net(needs_data=True))
    assert not all_learn(nn.Linear(3, 3))


def test_the_net_stays_as_it_was():
    net = Net()
    all_learn(net)
    assert all(p.grad is None and p.device == torch.device("cpu") for p in net.parameters())
