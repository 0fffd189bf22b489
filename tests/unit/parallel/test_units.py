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


def block():
    return nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU())


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.blocks = nn.Sequential(*(block() for _ in range(8)))
        self.blocks[6][0].weight = self.blocks[2][0].weight

    def forward(self, x):
        return self.blocks(self.stem(x))


def test_parts_that_share_a_parameter_are_no_units():
    names = shard_units(Tied())
    assert names == ["stem", *(f"blocks.{i}.0" for i in (0, 1, 3, 4, 5, 7))]


class FromOutside(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.codes, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x):
        x = self.codes(self.stem(x))
        return self.head(nn.functional.conv2d(x, self.codes.weight.transpose(0, 1)))


def test_a_part_whose_parameter_is_used_outside_of_it_is_no_unit():
    assert shard_units(FromOutside()) == ["stem", "head"]


class OfOneSize(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error, self.conv = error, nn.Conv2d(3, 3, 1)

    def forward(self, x):
        if x.shape[-1] != 64:
            raise self.error
        return self.conv(x)


@pytest.mark.parametrize("error", [AssertionError("64 x 64 only"), TypeError(), KeyError("128")])
def test_a_net_that_takes_no_such_image_is_one_unit(error):
    assert shard_units(OfOneSize(error)) == []


@pytest.mark.filterwarnings("ignore::FutureWarning")  # the older of PyTorch's two weight norms
def test_a_net_that_cannot_be_copied_is_one_unit():
    net = nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 8, 1)), nn.Conv2d(8, 8, 1))
    with torch.enable_grad():
        net(torch.zeros(1, 3, 4, 4))
    assert shard_units(net) == []
