"""Optimizers with parameter groups: a rate of their own for new heads, no decay where it hurts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW

from segframe.ranges import BelowOne, Fraction, NonNegative, Positive


def sgd(
    net: nn.Module,
    *,
    lr: Positive = 0.01,
    momentum: Fraction = 0.9,
    nesterov: bool = False,
    weight_decay: NonNegative = 1e-4,
    head_lr_factor: Positive = 1.0,
    decay_norm_and_bias: bool = True,
) -> SGD:
    """Returns stochastic gradient descent over the net's trainable parameters.

    Args:
        net: The net; ``net.encoder`` is what ``head_lr_factor`` sets apart.
        lr: Learning rate.
        momentum: Share of the last update that is kept, in [0, 1].
        nesterov: Whether the gradient is taken ahead of the momentum; needs ``momentum`` > 0.
        weight_decay: L2 penalty, added to the gradient.
        head_lr_factor: What the rate of parameters outside ``net.encoder`` is multiplied by.
        decay_norm_and_bias: Whether normalisation layers, biases and other vectors decay too.

    Raises:
        ValueError: If nothing is trainable, ``head_lr_factor`` is not 1 and the net has no encoder,
            or ``nesterov`` comes without momentum.
    """
    if nesterov and momentum == 0:
        raise ValueError("nesterov=true needs momentum > 0; set optimizer.momentum, or nesterov=false.")
    groups = _parameter_groups(net, lr, weight_decay, head_lr_factor, decay_norm_and_bias)
    return SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)


def adam(
    net: nn.Module,
    *,
    lr: Positive = 1e-3,
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
    head_lr_factor: Positive = 1.0,
    decay_norm_and_bias: bool = True,
) -> Adam:
    """Returns Adam over the net's trainable parameters (Kingma and Ba, ICLR 2015, arXiv:1412.6980).

    Args:
        net: The net; ``net.encoder`` is what ``head_lr_factor`` sets apart.
        lr: Learning rate.
        betas: Decay of the running mean and of the running mean square, each in [0, 1).
        eps: Added to the denominator.
        weight_decay: L2 penalty, added to the gradient.
        head_lr_factor: What the rate of parameters outside ``net.encoder`` is multiplied by.
        decay_norm_and_bias: Whether normalisation layers, biases and other vectors decay too.

    Raises:
        ValueError: If nothing is trainable, or ``head_lr_factor`` is not 1 and the net has no encoder.
    """
    groups = _parameter_groups(net, lr, weight_decay, head_lr_factor, decay_norm_and_bias)
    return Adam(groups, lr=lr, betas=_pair(betas), eps=eps, weight_decay=weight_decay)


def adamw(
    net: nn.Module,
    *,
    lr: Positive = 1e-3,
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.01,
    head_lr_factor: Positive = 1.0,
    decay_norm_and_bias: bool = True,
) -> AdamW:
    """Returns AdamW over the net's trainable parameters (Loshchilov and Hutter, ICLR 2019, arXiv:1711.05101).

    Args:
        net: The net; ``net.encoder`` is what ``head_lr_factor`` sets apart.
        lr: Learning rate.
        betas: Decay of the running mean and of the running mean square, each in [0, 1).
        eps: Added to the denominator.
        weight_decay: Share of a weight, times ``lr``, that each step takes off.
        head_lr_factor: What the rate of parameters outside ``net.encoder`` is multiplied by.
        decay_norm_and_bias: Whether normalisation layers, biases and other vectors decay too.

    Raises:
        ValueError: If nothing is trainable, or ``head_lr_factor`` is not 1 and the net has no encoder.
    """
    groups = _parameter_groups(net, lr, weight_decay, head_lr_factor, decay_norm_and_bias)
    return AdamW(groups, lr=lr, betas=_pair(betas), eps=eps, weight_decay=weight_decay)


def _pair(betas: tuple[float, float]) -> tuple[float, float]:
    # A configuration file gives a list; torch stores what it gets, and checkpoints should hold a tuple.
    first, second = betas
    return first, second


def _parameter_groups(
    net: nn.Module, lr: float, weight_decay: float, head_lr_factor: float, decay_norm_and_bias: bool
) -> list[dict[str, Any]]:
    """Sorts trainable parameters into at most four named groups, each in the order of the net."""
    if head_lr_factor != 1 and not isinstance(getattr(net, "encoder", None), nn.Module):
        raise ValueError(
            f"head_lr_factor={head_lr_factor} needs a net with an encoder, but {type(net).__name__} has no "
            "attribute `encoder`; set optimizer.head_lr_factor=1."
        )
    groups: dict[str, dict[str, Any]] = {}
    # By identity: a wrapper's encoder has another name there than here.
    encoder = getattr(net, "encoder", None)
    of_encoder = set(encoder.parameters()) if isinstance(encoder, nn.Module) else set()
    for parameter, is_vector in _trainable(net):
        in_head = head_lr_factor != 1 and parameter not in of_encoder
        decays = decay_norm_and_bias or not is_vector
        part = "net" if head_lr_factor == 1 else "head" if in_head else "encoder"
        key = part if decays else f"{part}_no_decay"
        group = {
            "name": key,
            "lr": lr * head_lr_factor if in_head else lr,
            "weight_decay": weight_decay if decays else 0.0,
            "params": [],
        }
        groups.setdefault(key, group)["params"].append(parameter)
    if not groups:
        raise ValueError(f"{type(net).__name__} has no parameter that requires a gradient; unfreeze a part of it.")
    return list(groups.values())


def _trainable(net: nn.Module) -> Iterator[tuple[nn.Parameter, bool]]:
    """Yields parameters and whether each belongs to a normalisation layer or is a vector."""
    normalisations = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
    of_normalisation = {
        parameter
        for module in net.modules()
        if isinstance(module, normalisations)
        for parameter in module.parameters(recurse=False)
    }
    for parameter in net.parameters():
        if parameter.requires_grad:
            yield parameter, parameter.ndim <= 1 or parameter in of_normalisation
