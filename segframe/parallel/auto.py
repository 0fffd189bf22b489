"""`strategy=auto`: whatever suits the number of devices."""

from __future__ import annotations

from pytorch_lightning.strategies import Strategy


def auto() -> Strategy | str:
    """Returns Lightning's word for "one device alone, several with DDP"."""
    return "auto"
