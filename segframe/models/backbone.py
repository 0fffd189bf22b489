"""Encoders of smp and timm: built, dilated, without a parameter too many.

Shape suffixes: B batch, C channels, H rows, W columns.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import segmentation_models_pytorch as smp
import timm
from torch import Tensor, nn
from torch.nn import functional as F

from segframe.models.pretrained import downloading, is_file, match_state_dict, read_state_dict
from segframe.models.probe import drop_unused_parameters, measure_stride

OutputStride = Literal[8, 16, 32]


class Encoder(NamedTuple):
    """An encoder and what was measured on it.

    Attributes:
        module: Maps (B, C, H, W) to a list of feature maps, finest first.
        channels: Channels of each of them.
        output_stride: Image rows per row of the last map.
    """

    module: nn.Module
    channels: Sequence[int]
    output_stride: int


def build_encoder(
    name: str, weights: str | None, output_stride: OutputStride, in_channels: int, num_outputs: int
) -> Encoder:
    """Builds an encoder of which the last ``num_outputs`` feature maps are used.

    smp dilates what it can; DenseNet and VGG, whose pooling it does not dilate, are dilated here. What
    can't be dilated (Inception, Xception, most transformers) runs at its own stride by ``output_stride=32``.

    Args:
        name: An smp encoder ("resnet50") or a timm model ("tu-convnext_tiny").
        weights: None for random ones, the name of weights to download ("imagenet"), or a local file.
        output_stride: 8 or 16: dilated to this stride. 32: the encoder as it is, whatever its stride.
        in_channels: Channels of the image.
        num_outputs: Parameters that only earlier feature maps depend on are taken out.

    Raises:
        ValueError: If there is no such encoder, or it can't have that stride.
        FileNotFoundError: If weights can't be found or downloaded.
    """
    check_encoder_name(name)
    module = _dilated(name, output_stride, in_channels)
    load_encoder_weights(module, name, weights, in_channels)

    def used(net: nn.Module, image_BCHW: Tensor) -> Sequence[Tensor]:
        outputs: Sequence[Tensor] = net(image_BCHW)[: -num_outputs - 1 : -1]
        return outputs

    try:
        drop_unused_parameters(module, in_channels, used)
        stride = measure_stride(module, in_channels, used)
    except Exception as error:  # meta tensors fail in each model's own words
        raise ValueError(
            f"encoder={name!r} does not take images of any size ({error}); choose one such as resnet50."
        ) from error
    if stride > output_stride:
        raise ValueError(
            f"encoder={name!r} has output stride {stride} and can't be dilated to {output_stride}; "
            f"set model.output_stride=32 to run it at its own stride, or choose one such as resnet50."
        )
    channels: Any = module.out_channels
    return Encoder(module, tuple(channels), stride)


def check_encoder_name(name: str) -> None:
    """Raises a ValueError with the nearest names if neither smp nor timm has an encoder ``name``."""
    if name in smp.encoders.encoders or (name.startswith("tu-") and timm.is_model(name[3:].split(".")[0])):
        return
    known = [*smp.encoders.encoders, *(f"tu-{model}" for model in timm.list_models())]
    nearest = difflib.get_close_matches(name, known, n=4)
    raise ValueError(
        f"encoder={name!r} is not an encoder of segmentation-models-pytorch, nor a timm model with the prefix "
        f"'tu-'. Nearest: {', '.join(nearest) or 'none'}; common choices: resnet18, resnet50, mobilenet_v2, "
        f"tu-convnext_tiny."
    )


def load_encoder_weights(module: nn.Module, name: str, weights: str | None, in_channels: int) -> None:
    """Fills an smp encoder with downloaded weights or those of a local file; None leaves it as it is."""
    if weights is None:
        return
    if is_file(weights):
        match_state_dict(module, read_state_dict(weights), f"encoder_weights={weights!r}")
        return
    match_state_dict(module, download_encoder(name, weights, in_channels), f"encoder_weights={weights!r}")


def download_encoder(name: str, weights: str, in_channels: int) -> dict[str, Tensor]:
    """Returns the published weights of an encoder, its first convolution adapted to ``in_channels``.

    Raises:
        ValueError: If there are no such weights.
        FileNotFoundError: If they can't be downloaded.
    """
    _check_weights_name(name, weights)
    with downloading(name, weights):
        source: nn.Module = (
            timm.create_model(name[3:], pretrained=True, in_chans=in_channels, num_classes=0)
            if name.startswith("tu-")
            else _get(name, in_channels, 32, weights)
        )
    return source.state_dict()


def _check_weights_name(name: str, weights: str) -> None:
    if not name.startswith("tu-"):
        available = list(smp.encoders.encoders[name]["pretrained_settings"])
        if weights not in available:
            raise ValueError(
                f"encoder_weights={weights!r} does not exist for encoder {name!r}, which has "
                f"{', '.join(available) or 'none'}; or give null or the path of a .pth, .pt or .safetensors file."
            )
    elif weights != "imagenet":
        raise ValueError(
            f"encoder_weights={weights!r} does not exist for timm's encoder {name!r}: use imagenet for its default "
            f"weights, choose others by a tag in the encoder's name (tu-resnet18.a1_in1k), or give a local file."
        )


def _get(name: str, in_channels: int, output_stride: int, weights: str | None = None) -> nn.Module:
    module: nn.Module = smp.encoders.get_encoder(
        name, in_channels=in_channels, depth=5, weights=weights, output_stride=output_stride
    )
    return module


def _dilated(name: str, output_stride: int, in_channels: int) -> nn.Module:
    mend = next((how for prefix, how in _MENDED.items() if name.startswith(prefix)), None)
    if mend is not None:
        module = _get(name, in_channels, 32)
        mend(module, output_stride)
        return module
    try:
        return _get(name, in_channels, output_stride)
    except Exception as error:  # each of timm's hundreds of models refuses in its own words
        if output_stride == 32:
            raise ValueError(f"encoder={name!r} can't give five feature maps: {error}") from error
        raise ValueError(
            f"encoder={name!r} can't be dilated to output_stride={output_stride} ({error}); set "
            f"model.output_stride=32 to run it at its own stride, or choose one such as resnet50."
        ) from error


class DilatedAveragePool(nn.Module):
    """A 2x2 average pool with stride 1 whose four taps lie ``dilation`` apart.

    Every ``dilation``-th value equals what the pool with stride 2 gave. DenseASPP (Yang et al. 2018,
    sec. 4.1) leaves the pool out instead, which pretrained weights have not seen.
    """

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Keeps the size; the last rows and columns are replicated."""
        d = self.dilation
        padded = F.pad(x_BCHW, (0, d, 0, d), mode="replicate")
        rows = padded[..., :-d, :] + padded[..., d:, :]
        return (rows[..., :-d] + rows[..., d:]) / 4


def _dilate_densenet(module: nn.Module, output_stride: int) -> None:
    """Takes the stride out of the transitions past ``output_stride`` and dilates the blocks behind them."""
    features: Any = module.features
    transitions = {16: (features.transition2, features.denseblock3), 32: (features.transition3, features.denseblock4)}
    for stride, (transition, block) in transitions.items():
        if stride > output_stride:
            transition.pool = DilatedAveragePool(stride // output_stride // 2)
            _dilate_convolutions(block, stride // output_stride)


def _dilate_vgg(module: nn.Module, output_stride: int) -> None:
    """Takes the stride out of the max pools past ``output_stride`` and dilates the blocks behind them."""
    features: Any = module.features
    stride = 1
    for layer in features:
        dilation = max(1, stride // output_stride)
        if isinstance(layer, nn.MaxPool2d):
            if stride >= output_stride:
                # 2x2 windows, padded at the end only: a max pool module pads both ends alike
                features[list(features).index(layer)] = _DilatedMaxPool(dilation)
            stride *= 2
        else:
            _dilate_convolutions(layer, dilation)


class _DilatedMaxPool(nn.Module):
    """The same for VGG's 2x2 maximum."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation

    def forward(self, x_BCHW: Tensor) -> Tensor:
        d = self.dilation
        return F.max_pool2d(F.pad(x_BCHW, (0, d, 0, d), mode="replicate"), 2, stride=1, dilation=d)


def _dilate_convolutions(module: nn.Module, dilation: int) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
            layer.dilation = layer.padding = (dilation, dilation)


_MENDED = {"densenet": _dilate_densenet, "vgg": _dilate_vgg}
