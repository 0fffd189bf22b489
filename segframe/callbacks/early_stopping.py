"""Ends a run that no longer improves."""

from __future__ import annotations

from pytorch_lightning.callbacks import Callback, EarlyStopping

from segframe.ranges import NonNegative, PositiveInt


def early_stopping(patience: PositiveInt | None = None, min_delta: NonNegative = 0.0) -> Callback | None:
    """Returns the callback that ends a run whose val/miou has not risen for ``patience`` evaluations."""
    if patience is None:
        return None
    return EarlyStopping("val/miou", min_delta=min_delta, patience=patience, mode="max", verbose=False)
