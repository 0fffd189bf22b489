"""Tensors that are the same on all ranks that share the rows of images: pooled maps, and what is made of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_iter

from segframe.parallel.rows.group import Rows


class Replicated(Tensor):
    """A tensor that knows between which ranks rows are split, though it is whole on each of them.

    Operations on it are a plain tensor's and give ``Replicated`` tensors. A mark that gets lost costs memory
    and nothing else: a marked map that is resized to the rows of an image is made row by row where it is needed.

    Attributes:
        rows: The ranks.
    """

    rows: Rows

    @classmethod
    def of(cls, x: Tensor, rows: Rows) -> Replicated:
        """Marks a tensor that has the same values on all ranks; gradients pass as they are."""
        made = x.as_subclass(cls)
        made.rows = rows
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Lets a net keep such a tensor in a buffer: what is saved is a plain one, without the ranks."""
        return self.as_subclass(Tensor).__reduce_ex__(protocol)  # type: ignore[no-untyped-call]

    def __deepcopy__(self, memo: Any) -> Tensor:
        """Returns a plain copy."""
        return copy.deepcopy(self.as_subclass(Tensor), memo)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _RULES:
            return _RULES[func](func, args, kwargs or {})
        result = super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]
        if result is not NotImplemented:
            _pass_on(result, (args, kwargs))
        return result


_RULES: dict[Any, Callable[..., Any]] = {}


def replicated_rule(function: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers what an operation does on a ``Replicated`` if that differs from a plain tensor."""

    def register(handler: Callable[..., Any]) -> Callable[..., Any]:
        _RULES[function] = handler
        return handler

    return register


def without_marks(arguments: Any) -> Any:
    """Returns arguments, lists of them included, with plain tensors in place of ``Replicated`` ones."""
    if isinstance(arguments, Replicated):
        return arguments.as_subclass(Tensor)
    if type(arguments) in (list, tuple):
        return type(arguments)(without_marks(a) for a in arguments)
    return arguments


def _pass_on(result: Any, arguments: Any) -> None:
    made = [x for x in tree_iter(result) if type(x) is Replicated and "rows" not in vars(x)]
    if made:
        rows = [x.rows for x in tree_iter(arguments) if type(x) is Replicated and "rows" in vars(x)]
        for x in made if rows else ():
            x.rows = rows[0]
