"""Reads from source files, without importing them, which arguments a function or class takes."""

from __future__ import annotations

import ast
import importlib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segframe.config.sources import Source, find, qualified

UNKNOWN = object()
"""Stands for a default that is no literal."""

# Modules that are light enough to be imported for the annotations that they define.
_LIGHT = {"typing", "typing_extensions", "collections.abc", "pathlib", "annotated_types", "segframe.ranges"}
# Names of annotations whose values a YAML file can't hold (Callable, Iterator, Protocol, ...) count as Any.
_NAMES = ["Any", "Literal", "Annotated", "Optional", "Union", "Sequence", "Mapping", "List", "Dict", "Tuple"]
_PLAIN: dict[str, Any] = {name: getattr(typing, name) for name in _NAMES}
_PLAIN |= {
    "Iterable": Sequence,
    "Collection": Sequence,
    "MutableSequence": Sequence,
    "MutableMapping": Mapping,
}
_BUILTINS: dict[str, Any] = {t.__name__: t for t in (int, float, str, bool, list, dict, tuple, set)}


@dataclass(frozen=True)
class Parameter:
    """One argument.

    Attributes:
        annotation: The values it takes, as a typing object; ``Any`` where the source does not tell.
        default: The default where it is a literal, else ``UNKNOWN``.
    """

    annotation: Any
    default: Any


@dataclass(frozen=True)
class Signature:
    """What a target takes by keyword.

    Attributes:
        parameters: The arguments by name.
        is_open: Whether ``**kwargs`` takes further names.
    """

    parameters: Mapping[str, Parameter]
    is_open: bool


def read_signature(target: str) -> Signature | None:
    """Returns what the function or class ``target`` takes, or None where its source does not tell.

    Args:
        target: A full dotted name, such as ``segframe.models.pspnet.PSPNet``.

    Raises:
        LookupError: If there is no such module, or the module has no such name.
    """
    found = find(target)
    if found is None:
        return None
    source, node, owner = found
    if isinstance(node, ast.ClassDef):
        return _class_signature(source, node)
    if isinstance(node, ast.FunctionDef):
        decorators = {ast.unparse(d) for d in node.decorator_list}
        return _function_signature(source, node, bound=owner and "staticmethod" not in decorators)
    return None


def _class_signature(source: Source, node: ast.ClassDef) -> Signature | None:
    for statement in reversed(node.body):
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            return _function_signature(source, statement, bound=True)
        if isinstance(statement, ast.FunctionDef) and statement.name == "__new__":
            return None
    bases: list[Signature] = []
    for base in node.bases:
        name = ast.unparse(base).split("[")[0]
        if name.split(".")[-1] in ("object", "ABC", "Protocol", "Generic", "NamedTuple"):
            continue
        try:
            parent = find(qualified(name, source))
        except LookupError:
            parent = None
        if parent is None or not isinstance(parent[1], ast.ClassDef):
            return None
        signature = _class_signature(parent[0], parent[1])
        if signature is None:
            return None
        bases.append(signature)
    parameters = dict(bases[0].parameters) if bases else {}
    if _has_fields(node):
        parameters |= _fields(source, node)
    return Signature(parameters, is_open=any(base.is_open for base in bases[:1]))


def _has_fields(node: ast.ClassDef) -> bool:
    names = [*node.decorator_list, *node.bases]
    return any(ast.unparse(n).split("(")[0].split(".")[-1] in ("dataclass", "NamedTuple") for n in names)


def _fields(source: Source, node: ast.ClassDef) -> dict[str, Parameter]:
    found = {}
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = ast.unparse(statement)
            if "ClassVar" not in text and "init=False" not in text:
                annotation = _annotation(statement.annotation, source)
                found[statement.target.id] = Parameter(annotation, _literal(statement.value))
    return found


def _function_signature(source: Source, node: ast.FunctionDef, bound: bool) -> Signature:
    positional = [*node.args.posonlyargs, *node.args.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(node.args.defaults))
    pairs = list(zip(positional, [*defaults, *node.args.defaults], strict=True))[1 if bound else 0 :]
    pairs += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    parameters = {a.arg: Parameter(_annotation(a.annotation, source), _literal(d)) for a, d in pairs}
    return Signature(parameters, is_open=node.args.kwarg is not None)


def _literal(node: ast.expr | None) -> Any:
    try:
        return UNKNOWN if node is None else ast.literal_eval(node)
    except ValueError:
        return UNKNOWN


def _annotation(node: ast.expr | None, source: Source) -> Any:
    """Returns the typing object that an annotation stands for, ``Any`` for what YAML can't hold."""
    try:
        return Any if node is None else _evaluate(node, source)
    except (TypeError, ValueError, AttributeError, LookupError, SyntaxError, RecursionError):
        return Any


def _evaluate(node: ast.expr, source: Source) -> Any:
    match node:
        case ast.Constant(value=str() as text):
            return _evaluate(ast.parse(text, mode="eval").body, source)
        case ast.Constant(value=value):
            return value
        case ast.Name() | ast.Attribute():
            return _named(ast.unparse(node), source)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return typing.Union[_evaluate(left, source), _evaluate(right, source)]  # noqa: UP007
        case ast.Subscript(value=base, slice=inner):
            return _subscript(_evaluate(base, source), inner, source)
        case ast.Call(func=function, args=args, keywords=keywords):
            named = {str(k.arg): ast.literal_eval(k.value) for k in keywords}
            return _evaluate(function, source)(*(_number(a, source) for a in args), **named)
    return ast.literal_eval(node)


def _subscript(base: Any, inner: ast.expr, source: Source) -> Any:
    parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if base is Any:
        return Any
    if base is typing.Literal:
        return base[tuple(ast.literal_eval(part) for part in parts)]
    if base is typing.Annotated:
        return base[tuple(_evaluate(part, source) for part in parts)]
    values = tuple(_annotation(part, source) for part in parts)
    return base[values if len(values) > 1 else values[0]]


def _number(node: ast.expr, source: Source) -> Any:
    return _evaluate(node, source) if isinstance(node, ast.Name) else ast.literal_eval(node)


def _named(name: str, source: Source) -> Any:
    """Returns the object behind a name in an annotation."""
    full = qualified(name, source)
    module, _, last = full.rpartition(".")
    if not module:
        return _BUILTINS.get(full, Any)
    if module in _LIGHT:
        if module in ("annotated_types", "segframe.ranges") or full == "pathlib.Path":
            return getattr(importlib.import_module(module), last)
        return _PLAIN.get(last, Any)
    found = find(full)
    match found:
        case (home, ast.Assign(value=value), _) | (home, ast.AnnAssign(value=ast.expr() as value), _):
            return _evaluate(value, home)
    return Any
