"""Operations on each value by itself: every rank runs them on its own rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from segframe.parallel.rows.tensor import RowTensor, UnsplittableError, name_of, rule, split_among

# fmt: off
NAMES = [
    "abs", "absolute", "acos", "acosh", "add", "addcdiv", "addcmul", "and", "asin", "asinh", "atan", "atan2",
    "atanh", "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "ceil", "celu", "clamp", "clamp_max",
    "clamp_min", "clip", "copysign", "cos", "cosh", "deg2rad", "div", "divide", "elu", "eq", "erf", "erfc",
    "erfinv", "exp", "exp2", "expm1", "float_power", "floor", "floor_divide", "fmax", "fmin", "fmod", "frac", "ge",
    "gelu", "greater", "greater_equal", "gt", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "heaviside",
    "hypot", "invert", "isclose", "isfinite", "isinf", "isnan", "le", "leaky_relu", "lerp", "less", "less_equal",
    "log", "log10", "log1p", "log2", "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor",
    "logit", "logsigmoid", "lt", "masked_fill", "maximum", "minimum", "mish", "mod", "mul", "multiply",
    "nan_to_num", "ne", "neg", "negative", "not_equal", "or", "pow", "prelu", "rad2deg", "reciprocal", "relu",
    "relu6", "remainder", "round", "rsqrt", "rsub", "selu", "sgn", "sigmoid", "sign", "silu", "sin", "sinc", "sinh",
    "softplus", "softshrink", "softsign", "sqrt", "square", "sub", "subtract", "tan", "tanh", "tanhshrink",
    "threshold", "true_divide", "truediv", "trunc", "where", "xlogy", "xor",
]
# fmt: on
"""Names of operations that compute each value of their result from the values at its place alone, without chance."""


def _spelled(names: Sequence[str]) -> Iterator[Any]:
    for name in names:
        for spelling in (name, f"{name}_", f"__{name}__", f"__r{name}__", f"__i{name}__"):
            for owner in (torch, F, Tensor):
                function = getattr(owner, spelling, None)
                if callable(function):
                    yield function


def own_rows(x: Any, like: RowTensor) -> Any:
    """Returns what of an operand belongs to the own rows of another one.

    Args:
        x: A split tensor, a tensor that is the same on all ranks, or no tensor.
        like: The split operand that ``x`` is broadcast with.

    Raises:
        ValueError: If ``x`` has another number of rows, or rows in another dimension.
    """
    if isinstance(x, RowTensor):
        if (x.height, x.axis) != (like.height, like.axis):
            raise ValueError(f"tensors {tuple(x.shape)} and {tuple(like.shape)} don't have the same rows.")
        return x.local
    if not isinstance(x, Tensor) or x.dim() < -like.axis or x.shape[like.axis] == 1:
        return x
    if x.shape[like.axis] != like.height:
        raise ValueError(
            f"a tensor {tuple(x.shape)} beside {tuple(like.shape)}, whose rows are split over ranks, must have "
            f"1 or {like.height} rows in dimension {like.axis}."
        )
    first, stop = like.rows.own(like.height)
    return x.narrow(like.axis, first, stop - first)


@rule(*_spelled(NAMES), any_shape=True)
def pointwise(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Applies an operation to the own rows of each operand."""
    like = split_among((*args, *kwargs.values()))
    if kwargs.get("out") is not None or (_writes(function, kwargs) and not isinstance(args[0], RowTensor)):
        raise UnsplittableError(
            f"{name_of(function)} would write rows that are split over ranks into a tensor that is whole on each of "
            "them; write into a tensor made from the split one, or make a new tensor."
        )
    result = function(*(own_rows(a, like) for a in args), **{k: own_rows(v, like) for k, v in kwargs.items()})
    if not isinstance(result, Tensor):  # where(condition) alone
        raise UnsplittableError(f"{name_of(function)} of split rows gives positions, which has no exact rule.")
    return args[0] if isinstance(args[0], RowTensor) and result is args[0].local else like.like(result)


def _writes(function: Any, kwargs: dict[str, Any]) -> bool:
    name = getattr(function, "__name__", "")
    is_own = name.endswith("_") and not name.endswith("__")
    return is_own or (name.startswith("__i") and name != "__invert__") or bool(kwargs.get("inplace"))


@rule(torch.zeros_like, torch.ones_like, torch.empty_like, torch.full_like, any_shape=True)
def alike(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowTensor:
    """Makes rows of the same shape."""
    like: RowTensor = args[0]
    return like.like(function(like.local, *args[1:], **kwargs))


@rule(Tensor.new_zeros, Tensor.new_ones, Tensor.new_empty, Tensor.new_full, any_shape=True)
def new(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Makes a new map's own rows where it has one for each rank, and otherwise a tensor on every rank."""
    like: RowTensor = args[0]
    given = kwargs.pop("size") if "size" in kwargs else args[1]
    in_full = not isinstance(given, int)
    shape = list(given) if in_full else list(args[1:])
    rest = args[2:] if in_full else ()
    if len(shape) != 4 or shape[2] < max(2, like.rows.size):
        return function(like.local, shape, *rest, **kwargs)
    height = shape[2]
    first, stop = like.rows.own(height)
    shape[2] = stop - first
    return RowTensor(function(like.local, shape, *rest, **kwargs), height, like.rows)


@rule(Tensor.new_tensor, any_shape=True)
def new_tensor(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Makes a tensor on every rank."""
    return function(args[0].local, *args[1:], **kwargs)
