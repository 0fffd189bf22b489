"""A net with what SegNet and PSPNet are made of, small enough to be compiled in seconds."""

from __future__ import annotations

from torch import Tensor, nn

from segframe.contracts import SegmentationOutput
from segframe.models.pspnet import PSPHead
from segframe.models.unpooling import max_pool_with_mask, max_unpool
from segframe.ranges import PositiveInt


class Mini(nn.Module):
    def __init__(self, num_classes: PositiveInt) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, 2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.head = PSPHead((8, 8), num_classes, (1, 2, 3), 0.5, True)

    def forward(self, image_BCHW: Tensor) -> SegmentationOutput:
        pooled, mask = max_pool_with_mask(self.first(image_BCHW))
        x = max_unpool(pooled, mask)
        output: SegmentationOutput = self.head(self.second(x), pooled)
        return output
