"""Checks a configuration's values against the signatures that they will be passed to.

The annotations of a constructor are the only schema: a new model needs one Python and one YAML file.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from annotated_types import Ge, Gt, Interval, Le, Len, Lt, MaxLen, MinLen, MultipleOf

from segframe.config.options import did_you_mean
from segframe.config.signatures import Signature, read_signature

ABSENT = object()
"""Stands for a value that could not be had; whoever puts it there reports why."""

SECTIONS = {
    "": "segframe.config.settings.Settings",
    "run": "segframe.config.settings.Run",
    "dataset": "segframe.config.settings.Dataset",
    "sweep": "segframe.sweep.settings.Settings",
    "sweep.search": "segframe.sweep.settings.Searching",
    "sweep.slurm": "segframe.sweep.settings.Slurm",
    "sweep.ray": "segframe.sweep.settings.Ray",
}
"""The sections without a ``_target_`` whose keys are declared all the same."""

_META = {
    "_target_": str,
    "_partial_": bool,
    "_recursive_": bool,
    "_convert_": Literal["none", "partial", "object", "all"],
}
_NUMBERS: dict[Any, tuple[str, str]] = {
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
    bool: ("true or false", "true or false"),
    Path: ("a path", "paths"),
    type(None): ("null", "null"),
}


def violations(values: Mapping[str, Any]) -> list[str]:
    """Returns one message for every value that its constructor does not take.

    Args:
        values: A whole configuration as plain, resolved values; ``ABSENT`` where one can't be had.
    """
    return list(_walk("", values))


def _walk(path: str, node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        target = node.get("_target_", SECTIONS.get(path))
        if isinstance(target, str):
            yield from _check_call(path, target, node)
        for key, value in node.items():
            yield from _walk(_join(path, key), value)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _walk(_join(path, index), value)


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _check_call(path: str, target: str, node: Mapping[str, Any]) -> Iterator[str]:
    try:
        signature = read_signature(target)
    except LookupError as error:
        yield f"{_join(path, '_target_')}={target}: {error.args[0]}"
        return
    for key, value in node.items():
        where = _join(path, key)
        if key in _META:
            yield from _check_value(where, value, _META[key])
        elif signature is None or key == "_args_":
            continue
        elif key in signature.parameters:
            parameter = signature.parameters[key]
            if not _same(value, parameter.default):
                yield from _check_value(where, value, parameter.annotation)
        elif path and not signature.is_open:
            yield _unknown(where, key, target, signature)


def _same(value: Any, default: Any) -> bool:
    if isinstance(default, tuple):
        default = list(default)
    return type(value) is type(default) and value == default


def _unknown(where: str, key: str, target: str, signature: Signature) -> str:
    names = list(signature.parameters)
    takes = ", ".join(names) or "nothing"
    return f"{where}: {target} has no argument `{key}`{did_you_mean(key, names) or ';'} it takes: {takes}"


def _check_value(where: str, value: Any, annotation: Any) -> Iterator[str]:
    if _is_unchecked(value) or fits(value, annotation):
        return
    hint = ""
    if isinstance(value, str):
        hint = did_you_mean(value, _choices(annotation)) or _quoted_hint(value, annotation)
    elif isinstance(value, float) and value.is_integer() and fits(int(value), annotation):
        hint = f"; write {int(value)}"
    yield f"{where}={show(value)} is not allowed; allowed: {describe(annotation)}{hint}"


def _quoted_hint(value: str, annotation: Any) -> str:
    is_number = _is_json(value) and fits(json.loads(value), annotation)
    return "; it is text here: write it without quotes" if is_number else ""


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _is_unchecked(value: Any) -> bool:
    """Whether a value holds something to be built, or something that is reported elsewhere."""
    if isinstance(value, Mapping):
        return "_target_" in value or any(_is_unchecked(v) for v in value.values())
    return value is ABSENT or (isinstance(value, list) and any(_is_unchecked(v) for v in value))


def fits(value: Any, annotation: Any) -> bool:
    """Returns whether ``annotation`` allows ``value``: an int is a float, but no bool or text is a number."""
    from pydantic import ValidationError

    try:
        # JSON is pydantic's strict mode in which a list may stand for a tuple, as it must in YAML.
        _adapter(annotation).validate_json(json.dumps(value), strict=True)
    except ValidationError:
        return False
    return True


@cache
def _adapter(annotation: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    if annotation is Any:
        return TypeAdapter(Any)
    return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))


def show(value: Any) -> str:
    """Returns a value as a command line or YAML file would hold it."""
    if isinstance(value, str):
        return repr(value) if not value.strip() or _is_json(value) else value
    return json.dumps(value, default=str)


def describe(annotation: Any) -> str:
    """Returns in words which values an annotation allows.

    Example:
        >>> describe(Literal["drop", "zero", "one"] | None)
        'drop, zero, one or null'
    """
    return _list(_alternatives(annotation))


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]


def _alternatives(annotation: Any) -> list[str]:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return [show(value) for value in args]
    if origin in (typing.Union, types.UnionType):
        return list(dict.fromkeys(text for arg in args for text in _alternatives(arg)))
    return [_phrase(annotation, plural=False)]


def _choices(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is Literal:
        return [value for value in typing.get_args(annotation) if isinstance(value, str)]
    return [choice for arg in typing.get_args(annotation) for choice in _choices(arg)]


def _phrase(annotation: Any, plural: bool) -> str:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return " ".join([_phrase(args[0], plural), _bounds(args[1:])]).strip()
    if origin is tuple and Ellipsis not in args:
        return f"{'lists' if plural else 'a list'} of {len(args)}: {', '.join(describe(a) for a in args)}"
    if origin in (list, tuple, set) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        return f"{'lists' if plural else 'a list'} of {_phrase(args[0], plural=True)}"
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return f"{'mappings' if plural else 'a mapping'} of {_phrase(args[0], True)} to {_phrase(args[1], True)}"
    if annotation in _NUMBERS:
        return _NUMBERS[annotation][plural]
    if origin in (Literal, typing.Union, types.UnionType):
        return _list(_alternatives(annotation))
    return getattr(annotation, "__name__", str(annotation)) if annotation is not Any else "anything else"


def _bounds(marks: Sequence[Any]) -> str:
    parts = []
    for mark in marks:
        match mark:
            case Ge(ge=bound):
                parts.append(f">= {bound}")
            case Gt(gt=bound):
                parts.append(f"> {bound}")
            case Le(le=bound):
                parts.append(f"<= {bound}")
            case Lt(lt=bound):
                parts.append("finite" if bound == float("inf") else f"< {bound}")
            case Interval():
                parts.append(_bounds(list(mark)))
            case MultipleOf(multiple_of=step):
                parts.append(f"divisible by {step}")
            case Len(min_length=low, max_length=high):
                parts.append(f"with {low} or more entries" if high is None else f"with {low} to {high} entries")
            case MinLen(min_length=low):
                parts.append(f"with {low} or more entries")
            case MaxLen(max_length=high):
                parts.append(f"with at most {high} entries")
    return " and ".join(parts)
