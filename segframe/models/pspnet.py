"""PSPNet.

Shape suffixes: B batch, C channels, H rows, W columns, g rows (= columns) of a pooled grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function_unary

from segframe.contracts import SegmentationOutput
from segframe.models.backbone import build_encoder
from segframe.models.convolution import conv_bn_relu
from segframe.models.encoder_parts import blocks, encoder_parts
from segframe.models.stages import Stage
from segframe.ranges import BelowOne, PositiveInt


class PSPNet(nn.Module):
    """A dilated encoder, pyramid pooling over its last map, and an auxiliary head on the map before it.

    Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017 (arXiv:1612.01105). The paper weights the
    auxiliary loss by 0.4; here the task does.

    Deviations: bilinear upsampling with ``align_corners=False``; the encoder is smp's, whose ResNets have
    one 7x7 convolution as stem where the reference code has three 3x3 (``encoder=tu-resnet50c`` has them).

    Args:
        num_classes: Channels K of the logits.
        encoder: An smp encoder ("resnet50") or a timm model with the prefix "tu-".
        encoder_weights: None for random weights, "imagenet" to download, or the path of a local file.
        output_stride: Image rows per row of logits, by dilation; 32 leaves the encoder as it is.
        in_channels: Channels of the image.
        grid_sizes: Rows (= columns) of each pooled grid.
        dropout: Probability of zeroing a channel before the classifiers, in [0, 1).
        auxiliary: Whether there is an auxiliary head, which runs in training alone.

    Attributes:
        output_stride: As measured on the encoder; below 32 where an encoder's own stride is.
        minimum_train_batch: Images per device that training needs, because of BatchNorm.

    Shape:
        (B, in_channels, H, W) -> (B, K, ceil(H / output_stride), ceil(W / output_stride)).

    Raises:
        ValueError: If there is no such encoder, or it can't have that stride; in training, if BatchNorm
            would see one value per channel.
        FileNotFoundError: If weights can't be found or downloaded.
    """

    def __init__(
        self,
        num_classes: PositiveInt,
        encoder: str = "resnet50",
        encoder_weights: str | None = None,
        output_stride: Literal[8, 16, 32] = 8,
        in_channels: PositiveInt = 3,
        grid_sizes: Sequence[PositiveInt] = (1, 2, 3, 6),
        dropout: BelowOne = 0.1,
        auxiliary: bool = True,
    ) -> None:
        super().__init__()
        built = build_encoder(encoder, encoder_weights, output_stride, in_channels, num_outputs=1 + auxiliary)
        self.encoder = built.module
        self.output_stride = built.output_stride
        self.minimum_train_batch = 2 if 1 in grid_sizes else 1
        self.head = PSPHead(built.channels, num_classes, grid_sizes, dropout, auxiliary)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Consecutive parts: most encoders block by block, any other in one, and the head."""
        found = encoder_parts(self.encoder)
        if found is None:
            return (_LastMaps(self.encoder), self.head)
        *parts, last = found.parts
        first, *others = blocks(last)
        before = [block for part in parts for block in blocks(part)]
        return (*before, _KeepInput(first), *(_KeepOther(block) for block in others), self.head)

    def forward(self, image_BCHW: Tensor) -> SegmentationOutput:
        """Maps normalised images to logits at the encoder's stride."""
        features = self.encoder(image_BCHW)
        output: SegmentationOutput = self.head(features[-1], features[-2])
        return output


class PSPHead(nn.Module):
    """What follows the encoder: pyramid pooling and classifier, and the auxiliary head.

    Zhao et al. 2017, sec. 3.2 and 3.3; widths as in the reference code.

    Args:
        channels: Channels of the encoder's maps, of which the last two are used.
        num_classes: Channels K of the logits.
        grid_sizes: Rows (= columns) of each pooled grid.
        dropout: Probability of zeroing a channel before the classifiers.
        auxiliary: Whether there is an auxiliary head, which runs in training alone.
    """

    def __init__(
        self, channels: Sequence[int], num_classes: int, grid_sizes: Sequence[int], dropout: float, auxiliary: bool
    ) -> None:
        super().__init__()
        pyramid = PyramidPooling(channels[-1], grid_sizes)
        self.main = nn.Sequential(pyramid, *_classifier(pyramid.out_channels, channels[-1] // 4, num_classes, dropout))
        self.auxiliary = (
            nn.Sequential(*_classifier(channels[-2], channels[-2] // 4, num_classes, dropout)) if auxiliary else None
        )

    def forward(self, last_BCHW: Tensor, before_BCHW: Tensor) -> SegmentationOutput:
        """Maps the encoder's last map and the one before to logits."""
        logits_BKHW = self.main(last_BCHW)
        if self.auxiliary is None or not self.training:
            return SegmentationOutput(logits_BKHW)
        return SegmentationOutput(logits_BKHW, (self.auxiliary(before_BCHW),))


class PyramidPooling(nn.Module):
    """Concatenates a feature map with its average-pooled context at several grid sizes.

    Zhao et al. 2017, sec. 3.2, fig. 3. Pooling is two small matrix products, equal to
    ``nn.AdaptiveAvgPool2d`` at any size, because that exports for one size only.

    Args:
        in_channels: Channels C of the input map.
        grid_sizes: Rows (= columns) of each pooled grid; each gets ``C // len(grid_sizes)`` channels.

    Shape:
        (B, C, H, W) -> (B, out_channels, H, W), any H and W >= 1.

    Raises:
        ValueError: In training, if BatchNorm would see one value per channel.
    """

    def __init__(self, in_channels: int, grid_sizes: Sequence[int]) -> None:
        super().__init__()
        width = in_channels // len(grid_sizes)
        self.grid_sizes = tuple(grid_sizes)
        self.out_channels = in_channels + width * len(grid_sizes)
        self.bins = nn.ModuleList(nn.Sequential(*conv_bn_relu(in_channels, width, 1)) for _ in grid_sizes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Returns the map and its pooled context, resized bilinearly, along the channels."""
        self._check_batch(x_BCHW)
        size = x_BCHW.shape[-2:]
        grids = pool_to_grids(x_BCHW, self.grid_sizes)
        context = [
            F.interpolate(conv(grid_BCgg), size=size, mode="bilinear", align_corners=False)
            for conv, grid_BCgg in zip(self.bins, grids, strict=True)
        ]
        return torch.cat((x_BCHW, *context), dim=1)

    def _check_batch(self, x_BCHW: Tensor) -> None:
        if not (self.training and len(x_BCHW) * min(self.grid_sizes) ** 2 == 1):
            return
        if any(type(module) is nn.BatchNorm2d and module.training for module in self.bins.modules()):
            raise ValueError(
                "PSPNet got a batch of 1 image in training: in its 1x1 pyramid bin BatchNorm sees one value per "
                "channel, which it would normalise to 0. Use at least 2 images per device, SyncBatchNorm over "
                "several devices, or grid_sizes without 1."
            )


def pool_to_grids(x_BCHW: Tensor, grid_sizes: Sequence[int]) -> list[Tensor]:
    """Pools a map adaptively to several grids, all of them from one pass over its rows.

    Args:
        x_BCHW: (B, C, H, W).
        grid_sizes: Rows (= columns) g of each grid.

    Returns:
        One (B, C, g, g) per grid size, equal to ``F.adaptive_avg_pool2d(x_BCHW, g)``.
    """
    if has_torch_function_unary(x_BCHW):
        grids: list[Tensor] = handle_torch_function(pool_to_grids, (x_BCHW,), x_BCHW, grid_sizes)
        return grids
    height, width = x_BCHW.shape[-2:]
    rows = torch.cat([_membership(height, g, x_BCHW) for g in grid_sizes])
    # each sum is divided at once: in fp16 the sum over a whole map could overflow
    pooled_rows = (rows @ x_BCHW) / rows.sum(dim=1)[:, None]
    grids = []
    for part, g in zip(torch.split(pooled_rows, list(grid_sizes), dim=-2), grid_sizes, strict=True):
        columns = _membership(width, g, x_BCHW)
        grids.append((part @ columns.T) / columns.sum(dim=1))
    return grids


def _membership(length: int, g: int, like: Tensor) -> Tensor:
    """(g, length) of 0 and 1: which positions lie in which of the ``g`` bins; bins may overlap."""
    position = torch.arange(length, device=like.device)
    index = torch.arange(g, device=like.device)[:, None]
    start, end = index * length // g, -((index + 1) * length // -g)
    return ((position >= start) & (position < end)).to(like.dtype)


def _classifier(in_channels: int, width: int, num_classes: int, dropout: float) -> list[nn.Module]:
    width = max(1, width)
    return [*conv_bn_relu(in_channels, width, 3), nn.Dropout2d(dropout), nn.Conv2d(width, num_classes, 1)]


class _LastMaps(nn.Module):
    """An encoder as a stage: its last map and the one before."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(image_BCHW)
        return features[-1], features[-2]


class _KeepInput(nn.Module):
    """A block as a stage that hands its input on, for the auxiliary head."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        return self.block(x_BCHW), x_BCHW


class _KeepOther(nn.Module):
    """A block as a stage that hands on what ``_KeepInput`` has kept."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x_BCHW: Tensor, kept_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        return self.block(x_BCHW), kept_BCHW
