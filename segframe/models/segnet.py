"""SegNet.

Shape suffixes: B batch, C channels, K classes, H rows, W columns.
"""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn

from segframe.contracts import SegmentationOutput
from segframe.models.backbone import download_encoder
from segframe.models.convolution import conv_bn_relu
from segframe.models.pretrained import is_file, match_state_dict, read_state_dict
from segframe.models.stages import Stage, run_stages
from segframe.models.unpooling import max_pool_with_mask, max_unpool
from segframe.ranges import PositiveInt

_VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class SegNet(nn.Module):
    """VGG16's 13 convolutions, and 13 mirrored ones that unpool with the encoder's pooling indices.

    Badrinarayanan et al., "SegNet", PAMI 2017 (arXiv:1511.00561), sec. 3. Convolutions have a bias,
    BatchNorm and ReLU, and pooling rounds up at odd sizes, as in the authors' Caffe model.

    Deviation: BatchNorm's statistics are running averages; the paper computes them over the training set.

    Args:
        num_classes: Channels K of the logits.
        encoder_weights: None for random weights, "imagenet" to download VGG16-BN, or the path of a local file.
        in_channels: Channels of the image.

    Shape:
        (B, in_channels, H, W) -> (B, K, H, W), any H and W >= 1.

    Raises:
        ValueError: If weights don't fit VGG16-BN.
        FileNotFoundError: If weights can't be found or downloaded.
    """

    output_stride = 1

    def __init__(
        self, num_classes: PositiveInt, encoder_weights: str | None = None, in_channels: PositiveInt = 3
    ) -> None:
        super().__init__()
        widths = [in_channels, *(block[-1] for block in _VGG16)]
        self.encoder = nn.ModuleList(
            PoolingBlock(_layers(before, block)) for before, block in zip(widths, _VGG16, strict=False)
        )
        # the mirror: each block ends at the width that the pooling before it has; the last is the classifier
        decoder = [
            UnpoolingBlock(_layers(block[-1], (*block[:-1], before)))
            for before, block in zip(widths[1:-1], _VGG16[1:], strict=True)
        ]
        classifier = nn.Conv2d(64, num_classes, 3, padding=1)
        last = UnpoolingBlock([*_layers(64, (64,)), classifier], last=True)
        self.decoder = nn.ModuleList([*reversed(decoder), last])
        _load_vgg(self.encoder, encoder_weights, in_channels)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Five blocks of the encoder and five of the decoder; masks of the poolings travel along."""
        return (*self.encoder, *self.decoder)

    def forward(self, image_BCHW: Tensor) -> SegmentationOutput:
        """Maps normalised images to logits of the same size."""
        return run_stages(self.stages, image_BCHW)


class PoolingBlock(nn.Sequential):
    """Layers and a 2x2 max pooling, as a stage: takes a map and masks, returns them with one mask more."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__(*layers)

    def forward(self, x_BCHW: Tensor, *masks: Tensor) -> tuple[Tensor, ...]:
        """Pools the layers' output; its mask becomes the last one."""
        pooled, mask = max_pool_with_mask(_run(self, x_BCHW))
        return (pooled, *masks, mask)


class UnpoolingBlock(nn.Sequential):
    """An unpooling by the last mask, then layers, as a stage.

    Args:
        layers: Applied in order.
        last: Whether the layers give the logits.
    """

    def __init__(self, layers: list[nn.Module], last: bool = False) -> None:
        super().__init__(*layers)
        self.last = last

    def forward(self, x_BCHW: Tensor, *masks: Tensor) -> tuple[Any, ...]:
        """Returns the map and the masks that are left, or the net's output."""
        y_BCHW = _run(self, max_unpool(x_BCHW, masks[-1]))
        if self.last:
            return SegmentationOutput(y_BCHW)
        return (y_BCHW, *masks[:-1])


def _run(layers: nn.Sequential, x_BCHW: Tensor) -> Tensor:
    for layer in layers:
        x_BCHW = layer(x_BCHW)
    return x_BCHW


def _layers(in_channels: int, widths: tuple[int, ...]) -> list[nn.Module]:
    pairs = zip((in_channels, *widths), widths, strict=False)
    return [layer for before, width in pairs for layer in conv_bn_relu(before, width, 3, bias=True)]


def _load_vgg(encoder: nn.ModuleList, weights: str | None, in_channels: int) -> None:
    """Fills the encoder with VGG16-BN's weights, whose layers torchvision counts through."""
    if weights is None:
        return
    given = read_state_dict(weights) if is_file(weights) else download_encoder("vgg16_bn", weights, in_channels)
    first = 0
    renamed = dict(given)
    for index, block in enumerate(_VGG16):
        for layer in range(3 * len(block)):
            for name in given:
                if match := re.fullmatch(rf"(?:.*\.)?features\.{first + layer}\.(\w+)", name):
                    renamed[f"{index}.{layer}.{match[1]}"] = renamed.pop(name)
        first += 3 * len(block) + 1  # and a pooling
    match_state_dict(encoder, renamed, f"encoder_weights={weights!r}")
