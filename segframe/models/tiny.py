"""A net of three convolutions for smoke tests.

Shape suffixes: B batch, C channels, H rows, W columns.
"""

from __future__ import annotations

from torch import Tensor, nn

from segframe.contracts import SegmentationOutput
from segframe.models.stages import Stage, run_stages
from segframe.ranges import BelowOne, PositiveInt


class Tiny(nn.Module):
    """Three 3x3 convolutions at stride 2, without BatchNorm, so that runs can be compared bit for bit.

    Args:
        num_classes: Channels K of the logits.
        in_channels: Channels of the image.
        width: Channels after the first convolution; twice as many after the second.
        dropout: Probability of zeroing a value before the classifier, in [0, 1).

    Shape:
        (B, in_channels, H, W) -> (B, K, ceil(H / 2), ceil(W / 2)), any H and W >= 1.
    """

    output_stride = 2

    def __init__(
        self,
        num_classes: PositiveInt,
        in_channels: PositiveInt = 3,
        width: PositiveInt = 16,
        dropout: BelowOne = 0.0,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_channels, width, 3, stride=2, padding=1), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.Dropout(p=dropout))
        self.head = _Head(2 * width, num_classes)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Consecutive parts; ``run_stages`` over them equals the net."""
        return (self.stem, self.body, self.head)

    def forward(self, image_BCHW: Tensor) -> SegmentationOutput:
        """Maps normalised images to logits at stride 2."""
        return run_stages(self.stages, image_BCHW)


class _Head(nn.Module):
    """The classifier as a stage."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(in_channels, num_classes, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> SegmentationOutput:
        return SegmentationOutput(self.classifier(x_BCHW))
