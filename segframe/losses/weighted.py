"""Weighted sum of losses.

Shape suffixes: B batch, K classes, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from segframe.contracts import Loss, LossTerms
from segframe.ranges import NonNegative


class WeightedSum(nn.Module):
    """Adds losses, each times its weight.

    Args:
        losses: The terms by name; any names.
        weights: One weight >= 0 under each of the same names.

    Shape:
        logits_BKHW, target_BHW (int64) -> statistics: those of the terms, one after the other.

    Raises:
        ValueError: If the names differ or there are none.
        TypeError: If a term is no module, because its ``_target_`` is missing.
    """

    def __init__(self, losses: dict[str, Loss], weights: dict[str, NonNegative]) -> None:
        super().__init__()
        if not losses or set(losses) != set(weights):
            raise ValueError(
                f"losses names {sorted(losses)} and weights names {sorted(weights)}; "
                "give every loss a weight under its own name (0 switches it off)."
            )
        self.losses = nn.ModuleDict(_modules(losses))
        self.weights = {name: float(weights[name]) for name in self.losses}

    def forward(self, logits_BKHW: Tensor, target_BHW: Tensor) -> LossTerms:
        """Returns the terms of the weighted sum."""
        parts = [(self.weights[name], loss(logits_BKHW, target_BHW)) for name, loss in self.losses.items()]
        return LossTerms.weighted_sum(parts)

    def target_statistics(self, target_BHW: Tensor) -> Tensor | None:
        """Returns the terms' statistics one after the other, or None if one of them can't tell."""
        parts = []
        for loss in self.losses.values():
            part = loss.target_statistics(target_BHW)  # type: ignore[operator]
            if part is None:
                return None
            parts.append(part)
        return torch.cat(parts)


def _modules(losses: Mapping[str, Loss]) -> dict[str, nn.Module]:
    modules: dict[str, nn.Module] = {}
    for name, loss in losses.items():
        if not isinstance(loss, nn.Module):
            raise TypeError(
                f"losses.{name} is a {type(loss).__name__}, not a loss; give it a `_target_`, or take it "
                f"from conf/loss with a defaults entry such as `cross_entropy@losses.{name}`."
            )
        modules[name] = loss
    return modules
