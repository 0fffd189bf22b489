"""SegNet-Basic.

Shape suffixes: B batch, C channels, H rows, W columns.
"""

from __future__ import annotations

from torch import Tensor, nn

from segframe.contracts import SegmentationOutput
from segframe.models.convolution import conv_bn_relu
from segframe.models.segnet import PoolingBlock, UnpoolingBlock
from segframe.models.stages import Stage, run_stages
from segframe.ranges import PositiveInt


class SegNetBasic(nn.Module):
    """Four encoders and four decoders of one 7x7 convolution each, with pooling indices in between.

    Badrinarayanan et al., "SegNet", PAMI 2017 (arXiv:1511.00561), sec. 3.3: 64 channels throughout,
    BatchNorm after each convolution, no biases, no ReLU in the decoder.

    Deviation: the authors' Caffe model normalises the image's local contrast first; here it comes normalised.

    Args:
        num_classes: Channels K of the logits.
        in_channels: Channels of the image.
        width: Channels of every hidden map.

    Shape:
        (B, in_channels, H, W) -> (B, K, H, W), any H and W >= 1.
    """

    output_stride = 1

    def __init__(self, num_classes: PositiveInt, in_channels: PositiveInt = 3, width: PositiveInt = 64) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(
            PoolingBlock(conv_bn_relu(before, width, 7)) for before in (in_channels, width, width, width)
        )
        last = UnpoolingBlock([*conv_bn_relu(width, width, 7)[:-1], nn.Conv2d(width, num_classes, 1)], last=True)
        self.decoders = nn.ModuleList([*(UnpoolingBlock(conv_bn_relu(width, width, 7)[:-1]) for _ in range(3)), last])

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Four blocks of the encoder and four of the decoder; masks of the poolings travel along."""
        return (*self.encoders, *self.decoders)

    def forward(self, image_BCHW: Tensor) -> SegmentationOutput:
        """Maps normalised images to logits of the same size."""
        return run_stages(self.stages, image_BCHW)
