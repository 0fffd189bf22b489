"""A user's own net: of unusual structure, and right in one process."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segframe.contracts import SegmentationOutput


class OddNet(nn.Module):
    """Has tied, borrowed, frozen and unused parameters, a frozen BatchNorm and buffers of several types."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = _block(3, 16, 2)
        self.body = nn.Sequential(*(_block(16, 16) for _ in range(8)))
        self.body[5][0].weight = self.body[2][0].weight
        self.body[1].requires_grad_(False)
        self.codes, self.one, self.unused = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 1, 1), nn.Conv2d(16, 16, 3)
        self.head = nn.Conv2d(16, num_classes, 1)
        nn.init.normal_(self.head.weight)  # else one class is predicted everywhere
        self.register_buffer("flags", torch.tensor([True, False]))
        self.register_buffer("phase", torch.exp(1j * torch.arange(16)))

    def train(self, mode: bool = True) -> OddNet:
        super().train(mode)
        self.body[0].eval()
        return self

    def forward(self, image: Tensor) -> SegmentationOutput:
        with torch.no_grad():
            x = self.stem(image)
        x = self.codes(self.body(x))
        x = x + F.conv2d(x, self.codes.weight) * self.phase.real.to(x.dtype).view(-1, 1, 1)
        x = x * self.one(x).sigmoid()
        return SegmentationOutput(self.head(x)[:, :])


def _block(channels: int, width: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels, width, 3, stride, padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU())
