"""Windows of rows are copies, where those of a plain tensor are views: refused wherever the difference would show.

It shows in a window that is written to while the map it was taken of is still in use, and in one that is read after
that map has been changed. ``x[..., rows, columns] += y`` is right: it writes the window back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import ref

from torch import Tensor

if TYPE_CHECKING:
    from segframe.parallel.rows.tensor import RowTensor

_WINDOW, _OWED = "_window_of_rows", "_window_to_be_written_back"


class ChangedWindowError(ValueError):
    """Another result than that of a plain tensor was about to come of a window of split rows."""


@dataclass(frozen=True)
class _Window:
    """Of which map a window is, and how often that had been changed when it was taken."""

    source: ref[RowTensor]
    version: int


def take(window: Tensor, source: RowTensor) -> None:
    """Notes that a tensor is a copy of rows of a map.

    Args:
        window: The copy; a view of it counts as the same.
        source: The map, as long as anyone has it.
    """
    local = source.local
    if local.is_inference() or window.is_inference():  # whose changes PyTorch does not count
        return
    outer = _window_of(local)
    outermost = outer.source() if outer else None
    source = source if outermost is None else outermost
    setattr(window, _WINDOW, _Window(ref(source), source.local._version))


def before(
    name_of: Callable[[Any], str], function: Any, args: Sequence[Any], split: Sequence[RowTensor]
) -> list[tuple[RowTensor, int]]:
    """Refuses to go on with windows that differ from views.

    Args:
        name_of: Returns an operation's name.
        function: The operation.
        args: Its arguments.
        split: Those whose rows are split.

    Returns:
        The windows among them, with the number of their changes so far, for ``behind``.

    Raises:
        ChangedWindowError: If a map was changed after a window of it was taken, or a window was and is not written
            back.
    """
    windows = []
    for x in split:
        root = _root(x.local)
        owed = getattr(root, _OWED, None)
        if owed is not None:
            part = getattr(args[2], "local", None) if function is Tensor.__setitem__ and x is args[0] else None
            if part is None or _root(part) is not owed():
                raise _refusal(name_of(function), "was changed in place")
            delattr(root, _OWED)
        window = _window_of(x.local)
        source = window.source() if window else None
        if window and source is not None:
            if source.local._version != window.version:
                raise _refusal(name_of(function), "is read after the map was changed in place")
            windows.append((x, x.local._version))
    return windows


def behind(name_of: Callable[[Any], str], function: Any, windows: Sequence[tuple[RowTensor, int]]) -> None:
    """Refuses what an operation has written into windows, unless ``+=`` and the like may be about to write it back.

    Args:
        name_of: Returns an operation's name.
        function: The operation.
        windows: From ``before``.

    Raises:
        ChangedWindowError: If it is not to be written back.
    """
    for x, version in windows:
        window = _window_of(x.local)
        source = window.source() if window else None
        if source is None or x.local._version == version:
            continue
        if not getattr(function, "__name__", "").startswith("__i"):
            raise _refusal(name_of(function), "would be changed in place")
        setattr(_root(source.local), _OWED, ref(_root(x.local)))


def check_settled(x: RowTensor) -> None:
    """Refuses a map whose window was changed and not written back.

    Raises:
        ChangedWindowError: If it is one.
    """
    if getattr(_root(x.local), _OWED, None) is not None:
        raise _refusal("the output", "was changed in place")


def _root(x: Tensor) -> Tensor:
    return x if x._base is None else x._base


def _window_of(local: Tensor) -> _Window | None:
    return getattr(_root(local), _WINDOW, None)


def _refusal(name: str, what: str) -> ChangedWindowError:
    return ChangedWindowError(
        f"{name}: a window of rows {what}, and where rows are split over ranks it is a copy, no view. Take the "
        "window's clone() if it should have values of its own, or write x[..., rows, columns] = part to change the map."
    )
