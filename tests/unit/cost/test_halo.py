"""The fewest rows that ranks must exchange, against counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segframe.contracts import SegmentationOutput
from segframe.cost.halo import exchanged
from segframe.models.unpooling import max_pool_with_mask, max_unpool


class Net(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return SegmentationOutput(self.layers(x))


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def rows_of(layer, height=16, channels=3, ranks=2, **options):
    """Bytes of rows over all ranks, in rows of ``channels`` x 8 columns of fp32, for both passes of one layer."""
    layers = nn.Sequential(nn.Conv2d(3, channels, 1), layer) if channels else layer
    image = torch.empty(1, 3, height, 8, device="meta")
    # What resizes to the size of the image is not the layer's.
    found = exchanged(Net(layers, nn.AdaptiveAvgPool2d(1)).to("meta").train(), image, ranks)
    return found.rows * ranks / (2 * channels * 8 * 4)


@pytest.mark.parametrize(
    ("layer", "rows"),
    [
        (nn.Conv2d(3, 5, 1), 0),
        (nn.Conv2d(3, 5, 3, padding=1), 2),  # one row on either side of the cut
        (nn.Conv2d(3, 5, 5, padding="same"), 4),
        (nn.Conv2d(3, 5, 3, padding=4, dilation=4), 8),
        (nn.Conv2d(3, 5, 3, padding=12, dilation=12), 8),  # rows 12 away, of which each rank has 4 that count
        (nn.Conv2d(3, 5, 3, stride=2, padding=1), 1),  # the lower rank's first window reaches up
        (nn.Conv2d(3, 5, 2, stride=2), 0),
        (nn.ConvTranspose2d(3, 5, 2, stride=2), 0),
        (nn.ConvTranspose2d(3, 5, 4, stride=2, padding=1), 2),
        (nn.MaxPool2d(3, 2, 1), 1),
        (nn.AvgPool2d(2), 0),
        (nn.Upsample(scale_factor=2, mode="nearest"), 0),
        (nn.Upsample(scale_factor=2, mode="bilinear"), 2),
        (Function(lambda x: max_unpool(*max_pool_with_mask(x))), 0),
        (nn.BatchNorm2d(3), 0),
    ],
)
def test_each_operation_needs_what_it_looks_at(layer, rows):
    assert rows_of(layer) == rows


def test_windows_across_the_cut_and_more_ranks_need_more():
    assert rows_of(Function(lambda x: max_pool_with_mask(x)[0]), height=14) == 1  # 7 rows each, 3 and 4 windows
    assert rows_of(nn.Conv2d(3, 5, 3, padding=1), ranks=4) == 6


def test_the_image_has_no_gradient_and_what_is_pooled_is_counted_apart():
    net = Net(nn.Conv2d(3, 3, 3, padding=1), nn.AdaptiveAvgPool2d(1)).to("meta")
    rows, pooled = exchanged(net, torch.empty(1, 3, 16, 8, device="meta"), 2)
    assert rows == 2 * 3 * 8 * 4 // 2  # forward alone; mean over two ranks
    assert pooled == 2 * 3 * 4  # a ring all-reduce of three values on two ranks sends each once, in both passes
