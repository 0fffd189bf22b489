"""One encoder over an image pyramid, fused by attention to scale.

Shape suffixes: B batch, C channels, K classes, S scales, H rows, W columns; h and w are the net's stride.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segframe.contracts import SegmentationOutput
from segframe.models.backbone import build_encoder
from segframe.models.convolution import conv_bn_relu
from segframe.models.encoder_parts import blocks, encoder_parts
from segframe.models.stages import Stage
from segframe.ranges import BelowOne, Positive, PositiveInt


class Pyramid(nn.Module):
    """Scores an image at several scales with shared weights and weights them per pixel by attention.

    Chen et al., "Attention to Scale", CVPR 2016 (arXiv:1511.03339), sec. 3: the net of each scale is
    DeepLab-LargeFOV (a 3x3 convolution dilated by 12 at stride 8, a 1x1 convolution, the classifier); the
    attention is a 3x3 convolution with 512 channels and a 1x1 convolution over the features of all scales,
    with a softmax across scales. The paper supervises every scale besides the fusion: these are
    ``auxiliary``, in training alone.

    Deviations: any encoder for VGG16; BatchNorm behind the 3x3 convolutions; the extra scores are compared with the
    mask at its own size, not with a smaller mask.

    Args:
        num_classes: Channels K of the logits.
        encoder: An smp encoder ("resnet50") or a timm model with the prefix "tu-".
        encoder_weights: None for random weights, "imagenet" to download, or the path of a local file.
        output_stride: Image rows per row of scores at scale 1, by dilation; 32 leaves the encoder as it is.
        in_channels: Channels of the image.
        scales: Sizes of the image relative to the input; the largest one sets the size of the logits.
        width: Channels of each scale's features; 1024 in the paper.
        attention_width: Channels of the attention's hidden map; 512 in the paper.
        dropout: Probability of zeroing a channel of the features, in [0, 1).

    Attributes:
        output_stride: As measured on the encoder.

    Shape:
        (B, in_channels, H, W) -> (B, K, h, w), any H and W >= 1.

    Raises:
        ValueError: If there are no scales or no such encoder, or the encoder can't have that stride.
        FileNotFoundError: If weights can't be found or downloaded.
    """

    def __init__(
        self,
        num_classes: PositiveInt,
        encoder: str = "resnet50",
        encoder_weights: str | None = None,
        output_stride: Literal[8, 16, 32] = 8,
        in_channels: PositiveInt = 3,
        scales: Sequence[Positive] = (1.0, 0.75, 0.5),
        width: PositiveInt = 256,
        attention_width: PositiveInt = 512,
        dropout: BelowOne = 0.5,
    ) -> None:
        super().__init__()
        if not scales:
            raise ValueError("scales is empty; give at least one size, such as [1.0, 0.75, 0.5].")
        built = build_encoder(encoder, encoder_weights, output_stride, in_channels, num_outputs=1)
        self.encoder = built.module
        self.output_stride = built.output_stride
        self.scales = tuple(scales)
        self.features = nn.Sequential(
            *conv_bn_relu(built.channels[-1], width, 3, dilation=max(1, 96 // built.output_stride)),
            nn.Dropout2d(dropout),
            *conv_bn_relu(width, width, 1),
            nn.Dropout2d(dropout),
        )
        self.classifier = nn.Conv2d(width, num_classes, 1)
        self.attention = nn.Sequential(
            *conv_bn_relu(width * len(self.scales), attention_width, 3),
            nn.Conv2d(attention_width, len(self.scales), 1),
        )

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Consecutive parts, each of which runs for all scales: the encoder's blocks, the features, the fusion.

        An encoder that draws random numbers stays in one part with the features, as it draws them scale by scale.
        """
        found = None if _draws(self.encoder) else encoder_parts(self.encoder)
        if found is None:
            return (_AllScales(nn.Sequential(_Last(self.encoder), self.features), self.scales), self._fusion)
        first, *others = [block for part in found.parts for block in blocks(part)]
        return (_AllScales(first, self.scales), *(_Each(p) for p in (*others, self.features)), self._fusion)

    def forward(self, image_BCHW: Tensor) -> SegmentationOutput:
        """Maps normalised images to logits at the stride of the largest scale."""
        features = [self.features(self.encoder(_scaled(image_BCHW, scale))[-1]) for scale in self.scales]
        output: SegmentationOutput = self._fusion(*features)
        return output

    @property
    def _fusion(self) -> _Fusion:
        return _Fusion(self.classifier, self.attention)


class _Fusion(nn.Module):
    """What follows the features of all scales."""

    def __init__(self, classifier: nn.Module, attention: nn.Module) -> None:
        super().__init__()
        self.classifier, self.attention = classifier, attention

    def forward(self, *features: Tensor) -> SegmentationOutput:
        scores = [self.classifier(feature) for feature in features]
        size = max(tuple(score.shape[-2:]) for score in scores)
        weights_BShw = self.attention(torch.cat([_resize(f, size) for f in features], dim=1)).softmax(dim=1)
        scores_BSKhw = torch.stack([_resize(score, size) for score in scores], dim=1)
        logits_BKhw = (weights_BShw.unsqueeze(2) * scores_BSKhw).sum(dim=1)
        return SegmentationOutput(logits_BKhw, tuple(scores) if self.classifier.training else ())


class _AllScales(nn.Module):
    """A module that is run on the image at each scale."""

    def __init__(self, part: nn.Module, scales: Sequence[float]) -> None:
        super().__init__()
        self.part, self.scales = part, tuple(scales)

    def forward(self, image_BCHW: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.part(_scaled(image_BCHW, scale)) for scale in self.scales)


class _Each(nn.Module):
    """A module that is run on the map of each scale."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.part(x) for x in maps)


class _Last(nn.Module):
    """An encoder's last map."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image_BCHW: Tensor) -> Tensor:
        last: Tensor = self.encoder(image_BCHW)[-1]
        return last


def _draws(encoder: nn.Module) -> bool:
    """Tells whether an encoder may draw random numbers."""
    return any("drop" in type(m).__name__.lower() or getattr(m, "_has_drop_connect", False) for m in encoder.modules())


def _scaled(image_BCHW: Tensor, scale: float) -> Tensor:
    size = tuple(max(1, round(side * scale)) for side in image_BCHW.shape[-2:])
    return _resize(image_BCHW, size)


def _resize(x_BCHW: Tensor, size: tuple[int, ...]) -> Tensor:
    if x_BCHW.shape[-2:] == size:
        return x_BCHW
    return F.interpolate(x_BCHW, size=size, mode="bilinear", align_corners=False)
