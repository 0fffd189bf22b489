"""Which parts of a net are gathered together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from segframe.build import _make
from segframe.config.compose import compose
from segframe.parallel.units import shard_units

MODELS = sorted(p.stem for p in (Path(__file__).parents[3] / "conf/model").glob("*.yaml"))


def size(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("model", MODELS)
def test_units_of_every_model_are_apart_and_called(model):
    net = _make(compose([f"model={model}"]).model)
    names = shard_units(net)
    assert names
    owners = [p for name in names for p in net.get_submodule(name).parameters()]
    assert len(owners) == len(set(owners))
    called = set()
    for name in names:
        net.get_submodule(name).register_forward_hook(lambda *_, name=name: called.add(name))
    net.train()
    with torch.no_grad():
        net(torch.zeros(2, 3, 64, 64))
    assert called == set(names)
    if model != "pyramid":  # one net at several scales: its parts are called several times
        assert sum(map(size, map(net.get_submodule, names))) > 0.95 * size(net)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared, self.unused = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.parts = nn.ModuleList([nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)])

    def forward(self, x):
        x = self.shared(self.shared(x))
        for part in self.parts:
            x = part(x)
        return x + self.unused.weight.sum()


def test_what_is_called_twice_or_never_is_no_unit():
    assert shard_units(Twice()) == ["parts.0", "parts.1"]


class Strange(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.conv(x) * float(x.sum())  # tensors without data have no value


def test_a_net_that_needs_data_is_one_unit():
    assert shard_units(Strange()) == []


def test_the_net_stays_as_it_was():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    shard_units(net)
    assert int(net[1].num_batches_tracked) == 0
    assert not net[0]._forward_hooks
