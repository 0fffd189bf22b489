"""What a comparison must see happen: random layers that draw, and pixels that rounding may turn over.

Shape suffixes: B batch, C channels, K classes, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


class RandomLayers:
    """Notes of every layer with a drop probability whether it changed what it was given.

    Args:
        net: The model, whose layers are watched until ``end``.
    """

    def __init__(self, net: nn.Module) -> None:
        self._drew: dict[str, bool] = {}
        self._handles: list[Any] = []
        for name, module in net.named_modules():
            if _drop_probability(module) > 0:
                self._drew[name] = False
                before, behind = self._hooks(name)
                self._handles += [module.register_forward_pre_hook(before), module.register_forward_hook(behind)]

    def end(self) -> dict[str, bool]:
        """Returns for each layer whether it drew, and watches no longer."""
        for handle in self._handles:
            handle.remove()
        return self._drew

    def _hooks(self, name: str) -> tuple[Callable[..., None], Callable[..., None]]:
        given: list[Tensor] = []

        def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if module.training and not self._drew[name]:
                given[:] = [tree_leaves(inputs[0])[0].detach().clone()]  # a layer may work in place, as FPN's does

        def behind(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if given:
                self._drew[name] = not torch.equal(given.pop(), tree_leaves(output)[0].detach())

        return before, behind


def _drop_probability(module: nn.Module) -> float:
    """Returns the p of torch's dropout layers or the drop_prob of timm's."""
    if "Drop" not in type(module).__name__:
        return 0.0
    return float(getattr(module, "p", getattr(module, "drop_prob", 0.0)) or 0.0)


class Ties:
    """An inference that also counts the pixels whose best two classes a difference of scores could swap.

    Two runs whose scores differ by up to e may predict different classes where the best two are less than
    2 e apart, and nowhere else. The e here is ``tolerance`` times the largest score.

    Args:
        inference: Maps (net, image_BCHW) to scores (B, K, H, W).
        tolerance: Relative difference up to which scores are equal.
    """

    def __init__(self, inference: Callable[..., Tensor], tolerance: float) -> None:
        self._inference, self._tolerance = inference, tolerance
        self._count = 0

    def __call__(self, net: Any, image_BCHW: Tensor) -> Tensor:
        """Returns the scores, unchanged."""
        scores = self._inference(net, image_BCHW)
        own = tree_leaves(scores)[0].detach()  # this rank's rows, where they are split
        best = own.topk(min(2, own.shape[1]), dim=1).values
        if best.shape[1] == 2:
            reach = 2 * self._tolerance * own.abs().max()
            self._count += int((best[:, 0] - best[:, 1] <= reach).sum())
        return scores

    def take(self) -> int:
        """Returns the count since the last call."""
        count, self._count = self._count, 0
        return count
