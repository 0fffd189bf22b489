"""Encoders as consecutive parts, for nets whose layers are to be cut.

Shape suffixes: B batch, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from segmentation_models_pytorch.encoders.densenet import DenseNetEncoder
from segmentation_models_pytorch.encoders.efficientnet import EfficientNetEncoder
from segmentation_models_pytorch.encoders.mix_transformer import MixVisionTransformerEncoder
from segmentation_models_pytorch.encoders.mobilenet import MobileNetV2Encoder
from segmentation_models_pytorch.encoders.resnet import ResNetEncoder
from segmentation_models_pytorch.encoders.senet import SENetEncoder
from segmentation_models_pytorch.encoders.vgg import VGGEncoder
from torch import Tensor, nn


class EncoderParts(NamedTuple):
    """An encoder in parts, each of which takes what the one before returned.

    Attributes:
        parts: Modules; what each returns is one feature map of the encoder, finest first.
        before: How many maps without parameters the encoder returns before those of the parts: none, the image, or
            the image and a map without channels at half its size.
    """

    parts: list[nn.Module]
    before: int


def encoder_parts(encoder: nn.Module) -> EncoderParts | None:
    """Returns the parts of an encoder, None for one that is not known to have any.

    Args:
        encoder: An encoder of segmentation-models-pytorch.
    """
    rule = next((rule for kind, rule in _RULES.items() if isinstance(encoder, kind)), None)
    return None if rule is None else rule(encoder)


def blocks(part: nn.Module) -> list[nn.Module]:
    """Returns a part of an encoder as modules in a row, as many as there are that have weights: its single blocks.

    Layers without weights and norms stay with the block before them, or with the first. What recomputes its
    activations as a whole stays whole.

    Args:
        part: One of ``EncoderParts.parts``.
    """
    if isinstance(part, WithBlockRates):
        return part.single()
    layers = list(_layers(part))
    if any(isinstance(layer, Contiguous) for layer in layers):
        return [part]  # blocks hand on maps that lie in memory in an order of their own, and no cut keeps that
    groups: list[list[nn.Module]] = [[]]
    has_weights = False
    for layer in layers:
        is_heavy = any(parameter.dim() > 1 for parameter in layer.parameters())
        if is_heavy and has_weights:
            groups.append([])
        has_weights = has_weights or is_heavy
        groups[-1].append(layer)
    return [group[0] if len(group) == 1 else nn.Sequential(*group) for group in groups]


def leading_maps(image_BCHW: Tensor, before: int) -> list[Tensor]:
    """Returns the maps of an encoder that come before those of its parts, as shapes without channels.

    Decoders read no more of them than their sizes.
    """
    batch, _, height, width = image_BCHW.shape
    return [image_BCHW.new_empty((batch, 0, height >> i, width >> i)) for i in range(before)]


class WithBlockRates(nn.Module):
    """Consecutive blocks of an EfficientNet, each with its rate of drop-connect."""

    def __init__(self, first: Sequence[nn.Module], blocks: Sequence[nn.Module], rates: Sequence[float]) -> None:
        super().__init__()
        self.first, self.blocks, self.rates = nn.Sequential(*first), nn.ModuleList(blocks), tuple(rates)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Returns the map behind the last block."""
        x_BCHW = self.first(x_BCHW)
        for block, rate in zip(self.blocks, self.rates, strict=True):
            x_BCHW = block(x_BCHW, rate)
        return x_BCHW

    def single(self) -> list[nn.Module]:
        """Returns the blocks one by one, each with its rate."""
        found: list[nn.Module] = []
        for index, (block, rate) in enumerate(zip(self.blocks, self.rates, strict=True)):
            found.append(WithBlockRates([] if index else [*self.first], [block], [rate]))
        return found


class Contiguous(nn.Module):
    """Copies a map into the usual order of memory."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Returns the map, contiguous."""
        return x_BCHW.contiguous(memory_format=torch.contiguous_format)


def _layers(part: nn.Module) -> Iterator[nn.Module]:
    """Yields what a Sequential runs, in order; one whose forward pass was replaced runs as a whole."""
    if type(part) is not nn.Sequential or "forward" in vars(part):
        yield part
        return
    for child in part:
        yield from _layers(child)


def _resnet(net: Any) -> EncoderParts:
    first = nn.Sequential(net.conv1, net.bn1, net.relu)
    return EncoderParts([first, nn.Sequential(net.maxpool, net.layer1), net.layer2, net.layer3, net.layer4], 1)


def _senet(net: Any) -> EncoderParts:
    second = nn.Sequential(net.layer0_pool, net.layer1)
    return EncoderParts([net.layer0, second, net.layer2, net.layer3, net.layer4], 1)


def _listed(net: Any, before: int) -> EncoderParts:
    """An encoder that is one list of layers, some of which give its maps."""
    layers, ends = list(net.features), [index + 1 for index in net._out_indexes]
    starts = [0, *ends[:-1]]
    return EncoderParts([nn.Sequential(*layers[a:b]) for a, b in zip(starts, ends, strict=True)], before)


def _densenet(net: Any) -> EncoderParts:
    f = net.features
    parts: list[nn.Module] = [nn.Sequential(f.conv0, f.norm0, f.relu0)]
    enter: list[nn.Module] = [f.pool0]
    for index in (1, 2, 3):
        block, transition = getattr(f, f"denseblock{index}"), getattr(f, f"transition{index}")
        parts.append(nn.Sequential(*enter, block, transition.norm, transition.relu))
        enter = [transition.conv, transition.pool]
    return EncoderParts([*parts, nn.Sequential(*enter, f.denseblock4, f.norm5)], 1)


def _efficientnet(net: Any) -> EncoderParts:
    blocks = list(net._blocks)
    rates = [net._drop_connect_rate * index / len(blocks) for index in range(len(blocks))]
    parts: list[nn.Module] = [nn.Sequential(net._conv_stem, net._bn0, net._swish)]
    start = 0
    for index in net._out_indexes:
        parts.append(WithBlockRates([], blocks[start : index + 1], rates[start : index + 1]))
        start = index + 1
    return EncoderParts(parts, 1)


def _mix_transformer(net: Any) -> EncoderParts:
    parts = [
        nn.Sequential(
            getattr(net, f"patch_embed{i}"), getattr(net, f"block{i}"), getattr(net, f"norm{i}"), Contiguous()
        )
        for i in (1, 2, 3, 4)
    ]
    return EncoderParts(list(parts), 2)


_RULES: dict[type, Callable[[Any], EncoderParts]] = {
    ResNetEncoder: _resnet,
    SENetEncoder: _senet,
    VGGEncoder: lambda net: _listed(net, 0),
    MobileNetV2Encoder: lambda net: _listed(net, 1),
    DenseNetEncoder: _densenet,
    EfficientNetEncoder: _efficientnet,
    MixVisionTransformerEncoder: _mix_transformer,
}
