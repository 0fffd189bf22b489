"""Giving modules of a net another class: parameters, buffers, hooks and their names stay as they are.

Classes of libraries are known by name, so that nothing is imported which the net does not use.
"""

from __future__ import annotations

from typing import Any

from torch import nn


class Added:
    """The parent of what is put before the class of a module; lets the module be copied and pickled."""

    made_of: tuple[type[Added], type[nn.Module]]

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Names the two classes that its own is made of, which stands in no file itself."""
        return _without_init, self.made_of, self.__dict__.copy()


def change_class(module: nn.Module, added: type[Added]) -> None:
    """Puts the methods of a class before those of a module's own.

    Args:
        module: Changed in place; a second change by the same class does nothing.
        added: Its ``super()`` is the class that the module has.
    """
    if not isinstance(module, added):
        module.__class__ = _changed(added, type(module))


def qualified_names(kind: type) -> list[str]:
    """Returns the full names of a class and its parents, nearest first."""
    return [f"{cls.__module__}.{cls.__qualname__}" for cls in kind.__mro__]


_made: dict[tuple[type[Added], type[nn.Module]], Any] = {}


def _changed(added: type[Added], plain: type[nn.Module]) -> Any:
    classes = (added, plain)
    if classes not in _made:
        _made[classes] = type(f"Shared{plain.__name__}", classes, {"__module__": added.__module__, "made_of": classes})
    return _made[classes]


def _without_init(added: type[Added], plain: type[nn.Module]) -> nn.Module:
    changed = _changed(added, plain)
    module: nn.Module = changed.__new__(changed)
    return module
