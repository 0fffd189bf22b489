"""What a comparison must see happen."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segframe.certificate.watch import RandomLayers


@pytest.mark.parametrize("inplace", [False, True])
def test_a_layer_that_draws_is_seen_in_place_too(inplace):
    net = nn.Sequential(nn.Dropout2d(0.5, inplace=inplace), nn.Dropout(0.0))
    layers = RandomLayers(net)
    net(torch.ones(4, 8, 2, 2))
    assert layers.end() == {"0": True}


def test_a_layer_that_does_not_draw_is_seen():
    net = nn.Sequential(nn.Dropout(0.5)).eval()
    layers = RandomLayers(net)
    net(torch.ones(4, 8, 2, 2))
    assert layers.end() == {"0": False}
