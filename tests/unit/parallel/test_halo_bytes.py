"""What ranks are said to exchange that share an image's rows is what the kernel has counted."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segframe.contracts import SegmentationOutput
from segframe.cost import sockets
from segframe.cost.halo import exchanged
from segframe.parallel.rows import Rows, RowTensor


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        convolutions = nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=2, dilation=2)
        self.layers = nn.Sequential(*convolutions, nn.MaxPool2d(3, 2, 1))

    def forward(self, x):
        return SegmentationOutput(self.layers(x))


def said_and_counted(rank, size):
    net = Net()
    image = torch.rand(1, 3, 32, 64)
    said = exchanged(net.to("meta"), torch.empty_like(image, device="meta"), size).rows
    net.to_empty(device="cpu")
    before = sockets.sent(store_port=0)
    net(RowTensor.of(image, Rows(rank, size))).at_size(32, 64).logits.local.sum().backward()
    return said, (sockets.sent(store_port=0) - before).to_ranks


@pytest.mark.skipif(sockets.why_not() is not None, reason=str(sockets.why_not()))
def test_what_is_said_is_what_is_sent(on_ranks):
    found = on_ranks(3, said_and_counted)
    assert found[0][0] > 50_000
    assert sum(counted for _, counted in found) == pytest.approx(sum(said for said, _ in found), rel=0.02)
