"""How tensors go from one rank's layers to the next rank's: as plain memory, in the layout that they have.

Shape suffixes: B batch, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Form(NamedTuple):
    """What a tensor is, but for its values.

    Attributes:
        shape: Its sizes.
        dtype: Its number format.
        is_channels_last: Whether it lies in memory as (B, H, W, C).
        learns: Whether a gradient comes back for it.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    is_channels_last: bool
    learns: bool

    @classmethod
    def of(cls, x: Tensor) -> Form:
        """Returns the form of a tensor."""
        return cls(tuple(x.shape), x.dtype, _strides_last(x), x.requires_grad)

    @property
    def size(self) -> int:
        """Elements."""
        return torch.Size(self.shape).numel()

    @property
    def num_bytes(self) -> int:
        """Bytes of the values."""
        return self.size * self.dtype.itemsize

    def flat(self, x: Tensor) -> Tensor:
        """Returns a tensor of this form as one axis in the order of memory, without a copy where it lies so."""
        return x.permute(0, 2, 3, 1).reshape(-1) if self.is_channels_last else x.reshape(-1)

    def shaped(self, flat: Tensor) -> Tensor:
        """Returns the tensor of this form that ``flat`` was made of."""
        if not self.is_channels_last:
            return flat.view(self.shape)
        batch, channels, height, width = self.shape
        return flat.view(batch, height, width, channels).permute(0, 3, 1, 2)

    def meta(self) -> Tensor:
        """Returns a flat tensor without data."""
        return torch.empty(self.size, dtype=self.dtype, device="meta", requires_grad=self.learns)


def pack(values: Sequence[Tensor], forms: Sequence[Form]) -> tuple[Tensor, ...]:
    """Returns what crosses; a tensor without elements is only a shape, which the other side knows."""
    return tuple(form.flat(x) for x, form in zip(values, forms, strict=True) if form.size)


def unpack(flats: Sequence[Tensor], forms: Sequence[Form], device: torch.device) -> tuple[Tensor, ...]:
    """Returns the tensors that ``pack`` was given."""
    left = iter(flats)
    return tuple(
        form.shaped(next(left)) if form.size else torch.empty(form.shape, dtype=form.dtype, device=device)
        for form in forms
    )


def random_state(device: torch.device) -> Tensor:
    """Returns the state of the generators that layers on a device draw from, as bytes on that device."""
    state = torch.get_rng_state()
    if device.type != "cpu":
        state = torch.cat((state, torch.get_device_module(device).get_rng_state(device)))
    return state.to(device)


def set_random_state(state: Tensor, device: torch.device) -> None:
    """Goes on where another rank's generators were."""
    size = torch.get_rng_state().numel()
    state = state.cpu()
    torch.set_rng_state(state[:size].clone())
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(state[size:].clone(), device)


def _strides_last(x: Tensor) -> bool:
    if x.dim() != 4:
        return False
    _, channels, height, width = x.shape
    return x.stride() == (height * width * channels, 1, width * channels, channels)
