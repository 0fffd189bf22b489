"""A tensor whose rows are split over ranks, on which a net's unmodified code runs.

Shape suffixes: B batch, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import resolve_name
from torch.utils._pytree import register_pytree_node

from segframe.parallel.rows.exchange import fetch, memory_format_of
from segframe.parallel.rows.group import Rows
from segframe.parallel.rows.replicated import without_marks
from segframe.parallel.rows.windows import before, behind

Rule = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
"""What an operation does on split rows: (function, arguments, keyword arguments) to its result."""

_RULES: dict[Any, Rule] = {}
_FOR_ANY_SHAPE: set[Rule] = set()


class UnsplittableError(ValueError):
    """An operation has no exact rule for tensors whose rows are split over ranks."""


def rule(*functions: Any, any_shape: bool = False) -> Callable[[Rule], Rule]:
    """Registers what operations do on a ``RowTensor``.

    Args:
        functions: Each a function, a method of ``torch.Tensor``, or the qualified name of a function that makes
            itself overridable by ``torch.overrides.handle_torch_function``.
        any_shape: Whether the rule heeds ``axis``; others get NCHW tensors alone.
    """

    def register(handler: Rule) -> Rule:
        for function in functions:
            _RULES[function] = handler
        if any_shape:
            _FOR_ANY_SHAPE.add(handler)
        return handler

    return register


def has_rule(function: Any) -> bool:
    """Tells whether an operation has a rule."""
    return function in _RULES or _qualified(function) in _RULES


def name_of(function: Any) -> str:
    """Returns the name of an operation as users write it."""
    name = resolve_name(function)
    return str(name or _qualified(function))


@dataclass(init=False, eq=False, repr=False)  # FSDP looks for tensors to hook into dataclasses, not into trees
class RowTensor:
    """A tensor, as a rule NCHW, whose rows are split over a group of ranks.

    Its shape is that of the whole tensor. Operations on it go to rules (see ``rule``); one without a rule
    raises, so that results are exact or there are none. Plain tensors beside it are the same on all ranks.

    Attributes:
        local: The own rows, (B, C, own rows, W).
        height: Rows of the whole tensor.
        rows: The ranks.
        axis: The dimension of the rows, counted from the last one: -2 unless dimensions were moved.

    Raises:
        ValueError: If ``local`` has another number of rows than this rank owns.
    """

    local: Tensor
    height: int
    rows: Rows
    axis: int

    def __init__(self, local: Tensor, height: int, rows: Rows, axis: int = -2) -> None:
        first, stop = rows.own(height)
        if local.dim() < -axis or local.shape[axis] != stop - first:
            raise ValueError(
                f"rank {rows.rank} of {rows.size} owns the rows {first} to {stop} of {height}, and got a tensor "
                f"{tuple(local.shape)}; expected {stop - first} in dimension {axis}."
            )
        self.local, self.height, self.rows, self.axis = local, height, rows, axis

    @classmethod
    def of(cls, x_BCHW: Tensor, rows: Rows) -> RowTensor:
        """Takes the own rows of a whole tensor.

        Raises:
            ValueError: If it has fewer rows than there are ranks.
        """
        height = x_BCHW.shape[2]
        rows.check(height, "the input")
        first, stop = rows.own(height)
        own = x_BCHW[:, :, first:stop]
        # A copy lets go of the rows of the others.
        return cls(own if rows.size == 1 else own.clone(memory_format=memory_format_of(own)), height, rows)

    def whole(self) -> Tensor:
        """Returns all rows, on every rank (collective)."""
        everything = [(0, self.height)] * self.rows.size
        return fetch(self.local, self.rows.spans(self.height), everything, self.rows)

    def like(self, local: Tensor, height: int | None = None) -> RowTensor:
        """Returns other rows split over the same ranks; as many as these in all if no ``height`` is given."""
        return RowTensor(local, self.height if height is None else height, self.rows, self.axis)

    @property
    def is_image(self) -> bool:
        """Whether it is NCHW."""
        return self.axis == -2 and self.local.dim() == 4

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        handler = _RULES.get(function) or _RULES.get(_qualified(function))
        if handler is None:
            raise UnsplittableError(
                f"{name_of(function)} has no exact rule for tensors whose rows are split over ranks. Choose a model "
                "without it, or a strategy that leaves the rows of an image together."
            )
        kwargs = {name: without_marks(value) for name, value in (kwargs or {}).items()}
        if handler not in _FOR_ANY_SHAPE:
            _check_images(function, (*args, *kwargs.values()))
        windows = before(name_of, function, args, _all_split((*args, *kwargs.values())))
        result = handler(function, without_marks(args), kwargs)
        if windows:
            behind(name_of, function, windows)
        return result

    @property
    def shape(self) -> torch.Size:
        """Of the whole tensor."""
        sizes = list(self.local.shape)
        sizes[self.axis] = self.height
        return torch.Size(sizes)

    def size(self, dim: int | None = None) -> Any:
        """Returns the shape of the whole tensor, or one number of it."""
        return self.shape if dim is None else self.shape[dim]

    @property
    def ndim(self) -> int:
        """How many dimensions it has."""
        return self.local.dim()

    def dim(self) -> int:
        """Returns how many dimensions it has."""
        return self.local.dim()

    def numel(self) -> int:
        """Returns the number of values of the whole tensor."""
        return self.shape.numel()

    def is_floating_point(self) -> bool:
        """Tells whether values are fractions."""
        return self.local.is_floating_point()

    def is_contiguous(self, memory_format: torch.memory_format = torch.contiguous_format) -> bool:
        """Tells how the own rows lie in memory."""
        return self.local.is_contiguous(memory_format=memory_format)

    def __len__(self) -> int:
        return len(self.local)

    def __repr__(self) -> str:
        return f"RowTensor(shape={tuple(self.shape)}, rows={self.rows.own(self.height)}, dtype={self.local.dtype})"

    __hash__ = object.__hash__

    def __iter__(self) -> Any:
        raise UnsplittableError("a tensor whose rows are split over ranks can't be iterated over; index its images.")

    def __bool__(self) -> bool:
        raise UnsplittableError("a tensor whose rows are split over ranks has no single truth value.")

    def __getattr__(self, name: str) -> Any:
        if name in _OF_LOCAL:
            return getattr(self.local, name)
        method = getattr(Tensor, name, None)
        if name.startswith("__") or method is None:
            raise AttributeError(f"a RowTensor has no attribute {name!r}")
        if not callable(method):
            raise UnsplittableError(f"Tensor.{name} has no exact rule for tensors whose rows are split over ranks.")
        return partial(_call, method, self)


_OF_LOCAL = {"dtype", "device", "layout", "requires_grad", "is_cuda", "is_meta", "is_leaf", "grad_fn"} | {
    "is_sparse", "is_quantized", "is_nested", "itemsize", "element_size", "is_complex", "names", "is_cpu", "is_mps",
    "is_xla", "is_mkldnn", "is_inference", "get_device",
}  # fmt: skip


def _call(method: Any, *args: Any, **kwargs: Any) -> Any:
    return RowTensor.__torch_function__(method, (RowTensor,), args, kwargs)


def _qualified(function: Any) -> str:
    return f"{getattr(function, '__module__', None)}.{getattr(function, '__qualname__', function)}"


def _operator(name: str) -> Callable[..., Any]:
    method = getattr(Tensor, name)

    def apply(self: RowTensor, *others: Any) -> Any:
        return _call(method, self, *others)

    return apply


_OPERATORS = [
    *(f"__{side}{name}__" for name in ("add", "sub", "mul", "truediv", "pow", "floordiv") for side in ("", "r", "i")),
    *(f"__{side}{name}__" for name in ("mod", "and", "or", "xor") for side in ("", "r", "i")),
    *(f"__{name}__" for name in ("neg", "abs", "invert", "matmul")),
    *(f"__{name}__" for name in ("eq", "ne", "lt", "le", "gt", "ge", "getitem", "setitem")),
]
for _name in _OPERATORS:
    setattr(RowTensor, _name, _operator(_name))


def _check_images(function: Any, arguments: Sequence[Any]) -> None:
    for x in _all_split(arguments):
        if not x.is_image:
            raise UnsplittableError(
                f"{name_of(function)} has no exact rule for a tensor {tuple(x.shape)} whose dimension {x.axis} is that "
                "of rows split over ranks, only for (B, C, H, W). Choose a model without it, or a strategy that leaves "
                "the rows of an image together."
            )


def _flatten(x: RowTensor) -> tuple[list[Any], tuple[int, Rows, int]]:
    return [x.local], (x.height, x.rows, x.axis)


def _unflatten(children: Iterable[Any], context: tuple[int, Rows, int]) -> RowTensor:
    made = object.__new__(RowTensor)  # a tree's leaves may be anything for a moment
    (made.local,), (made.height, made.rows, made.axis) = children, context
    return made


register_pytree_node(RowTensor, _flatten, _unflatten)


def split_among(arguments: Sequence[Any]) -> RowTensor:
    """Returns the first ``RowTensor`` of arguments, lists of them included."""
    return _all_split(arguments)[0]


def _all_split(arguments: Sequence[Any]) -> list[RowTensor]:
    found = (a for argument in arguments for a in (argument if isinstance(argument, list | tuple) else (argument,)))
    return [a for a in found if isinstance(a, RowTensor)]
