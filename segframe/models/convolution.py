"""The layers that most heads are made of."""

from __future__ import annotations

from torch import nn


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1, bias: bool = False
) -> list[nn.Module]:
    """Returns a convolution that keeps the size, BatchNorm and ReLU.

    Weights start as in He et al. 2015 (arXiv:1502.01852), eq. 14: normal, variance 2 / fan-out.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Rows (= columns) of the kernel; odd.
        dilation: Pixels between taps.
        bias: Whether the convolution has one, which BatchNorm makes redundant.
    """
    padding = dilation * (kernel_size // 2)
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=bias)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return [conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
