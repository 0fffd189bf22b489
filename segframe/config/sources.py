"""Finds and parses the source file of a dotted name, without importing it."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from segframe.config.options import did_you_mean


@dataclass
class Source:
    """One parsed file and what it binds at its top level.

    Attributes:
        module: Its dotted name.
        is_package: Whether it is an ``__init__.py``.
        tree: The parsed text.
        bound: Every name's statement, or the full name that it imports.
        stars: The modules that it imports everything from.
        is_dynamic: Whether it makes further names while it runs.
    """

    module: str
    is_package: bool
    tree: ast.Module
    bound: dict[str, ast.stmt | str] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    is_dynamic: bool = False


def find(target: str, depth: int = 0) -> tuple[Source, ast.stmt, bool] | None:
    """Follows a dotted name through packages, re-exports and classes.

    Args:
        target: A full dotted name.
        depth: Re-exports followed so far.

    Returns:
        The file, the definition in it and whether that is a method; None where the name can't be followed.

    Raises:
        LookupError: If there is no such package, or the module has no such name.
    """
    parts = target.split(".")
    for length in range(len(parts) - 1, 0, -1):
        source = _source(".".join(parts[:length]))
        if source is not None:
            return _find_in(source, parts[length:], depth)
    if not parts[0] or importlib.util.find_spec(parts[0]) is None:
        raise LookupError(f"Python finds no package `{parts[0]}`; install it or add its folder to PYTHONPATH")
    return None


def _find_in(source: Source, names: list[str], depth: int) -> tuple[Source, ast.stmt, bool] | None:
    binding = source.bound.get(names[0])
    if isinstance(binding, str) and depth < 20:
        return find(".".join([binding, *names[1:]]), depth + 1)
    if binding is None:
        return _find_elsewhere(source, names, depth)
    if not isinstance(binding, ast.ClassDef) or len(names) == 1:
        return (source, binding, False) if len(names) == 1 and not isinstance(binding, str) else None
    methods = [n for n in binding.body if isinstance(n, ast.FunctionDef) and n.name == names[1]]
    return (source, methods[-1], True) if methods and len(names) == 2 else None


def _find_elsewhere(source: Source, names: list[str], depth: int) -> tuple[Source, ast.stmt, bool] | None:
    is_dynamic = source.is_dynamic
    for star in source.stars:
        try:
            found = find(".".join([star, *names]), depth + 1) if depth < 20 else None
        except LookupError:
            continue
        if found:
            return found
        is_dynamic = True
    if is_dynamic:
        return None
    known = [*source.bound, *_submodules(source.module)]
    if names[0] in known:
        return None
    raise LookupError(f"`{source.module}` has no `{names[0]}`" + did_you_mean(names[0], known))


def qualified(name: str, source: Source) -> str:
    """Returns the full dotted name of what ``name`` means inside ``source``."""
    first, _, rest = name.partition(".")
    binding = source.bound.get(first)
    if binding is None:
        return name
    start = binding if isinstance(binding, str) else f"{source.module}.{first}"
    return f"{start}.{rest}" if rest else start


@cache
def _source(module: str) -> Source | None:
    """Parses the file of ``module``; None if it has none that is written in Python."""
    file = _file(module)
    if file is None or file.suffix != ".py":
        return None
    text = file.read_text(encoding="utf-8")
    source = Source(module, file.name == "__init__.py", ast.parse(text))
    source.is_dynamic = "globals()" in text or "def __getattr__" in text or "sys.modules[__name__]" in text
    for statement in _statements(source.tree.body):
        _bind(source, statement)
    return source


def _file(module: str) -> Path | None:
    first, *rest = module.split(".")
    spec = importlib.util.find_spec(first) if first else None
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin else None
    for location in spec.submodule_search_locations or ():
        base = Path(location).joinpath(*rest)
        for file in (base / "__init__.py", base.with_suffix(".py")):
            if file.is_file():
                return file
    return None


def _submodules(module: str) -> list[str]:
    file = _file(module)
    if file is None or file.name != "__init__.py":
        return []
    entries = (e for e in file.parent.iterdir() if not e.name.startswith("_"))
    return [e.name.split(".")[0] for e in entries if e.is_dir() or e.suffix in (".py", ".so", ".pyd")]


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With):
            yield from _statements([*statement.body, *getattr(statement, "orelse", [])])


def _bind(source: Source, statement: ast.stmt) -> None:
    match statement:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            source.bound[name] = statement
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            source.bound.setdefault(name, statement)
        case ast.Import(names=names):
            for alias in names:
                first = alias.name.split(".")[0]
                source.bound.setdefault(alias.asname or first, alias.name if alias.asname else first)
        case ast.ImportFrom(module=module, names=names, level=level):
            home = _absolute(source, module or "", level)
            for alias in names:
                if alias.name == "*":
                    source.stars.append(home)
                else:
                    source.bound.setdefault(alias.asname or alias.name, f"{home}.{alias.name}")


def _absolute(source: Source, module: str, level: int) -> str:
    if level == 0:
        return module
    parts = source.module.split(".")
    keep = len(parts) - level + (1 if source.is_package else 0)
    return ".".join([*parts[:keep], *([module] if module else [])])
