"""Starts a net from the weights of another one, such as one with a different number of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Transfer(NamedTuple):
    """What became of a state dict.

    Attributes:
        loaded: Names that were copied.
        mismatched: (name, shape in the state dict, shape in the net) of what kept the net's own values.
        missing: Names in the net that the state dict lacks.
        unexpected: Names in the state dict that the net lacks.
    """

    loaded: tuple[str, ...]
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    def __str__(self) -> str:
        """One line per tensor that was not loaded, after a line of counts."""
        lines = [
            f"loaded {len(self.loaded)} tensors; {len(self.mismatched)} of another shape, "
            f"{len(self.missing)} missing, {len(self.unexpected)} unexpected"
        ]
        lines += [f"  shape differs: {name} is {got}, needs {wanted}" for name, got, wanted in self.mismatched]
        lines += [f"  missing: {name}" for name in self.missing]
        lines += [f"  unexpected: {name}" for name in self.unexpected]
        return "\n".join(lines)


@torch.no_grad()
def load_matching(net: nn.Module, state_dict: Mapping[str, Tensor]) -> Transfer:
    """Copies into ``net`` every tensor whose name and shape agree, and lists the rest.

    Args:
        net: Changed in place; what does not match keeps its values.
        state_dict: Parameters and buffers by name.

    Raises:
        ValueError: If no parameter matches.
    """
    own = net.state_dict()
    fits = {name: value for name, value in state_dict.items() if name in own and own[name].shape == value.shape}
    if not any(name in fits for name, _ in net.named_parameters()):
        raise ValueError(
            f"None of the {len(state_dict)} tensors of the checkpoint fits {type(net).__name__}: it starts "
            f"with {_first(state_dict)}, the net with {_first(own)}. Use a checkpoint of the same model and encoder."
        )
    for name, value in fits.items():
        own[name].copy_(value)
    return Transfer(
        loaded=tuple(fits),
        mismatched=tuple(
            (name, tuple(value.shape), tuple(own[name].shape))
            for name, value in state_dict.items()
            if name in own and name not in fits
        ),
        missing=tuple(name for name in own if name not in state_dict),
        unexpected=tuple(name for name in state_dict if name not in own),
    )


def _first(state_dict: Mapping[str, Tensor]) -> str:
    return next((f"{name} {tuple(value.shape)}" for name, value in state_dict.items()), "nothing")
