"""The configuration of a run as its folder holds it: read fast, by dotted keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml

from segframe.config.options import PRIMARY, ConfigError, config_dirs, default_options, option_file

GROUPS = ("model", "dataset", "strategy")
"""The groups whose options are columns of the table of runs."""

CONSTRUCTOR = "_target_"
"""The last part of a key that says what a section of the configuration makes."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SECTION = re.compile(r"(?m)^(?=\w)")
_REPLACED = re.compile(r"\s*- override /?([\w/]+): *([^\s#]+)")
_FLAG = "--config-dir="


def read_config(run: Path) -> dict[str, Any]:
    """Returns a run's resolved configuration by dotted keys, those of constructors (``_target_``) too.

    Args:
        run: The run folder.

    Raises:
        OSError: If config.yaml can't be read.
        ValueError: If it is no configuration.
    """
    text = (run / "config.yaml").read_text(encoding="utf-8")
    # Runs differ in few sections, so most of a folder full of them has been read already. Anchors reach across.
    parts = [text] if re.search(r"[&*]id\d", text) else _SECTION.split(text)
    found: dict[str, Any] = {}
    for part in parts:
        found |= _section(part)
    if not found:
        raise ValueError("config.yaml is empty")
    return found


def is_told_by_option(key: str, options: Sequence[Mapping[str, str]]) -> bool:
    """Whether a key is a constructor within a group of ``GROUPS`` of which runs take different options.

    Args:
        key: A dotted key.
        options: Of each run, what ``options_of`` returns.
    """
    group = key.split(".")[0]
    return key.endswith(f".{CONSTRUCTOR}") and group in GROUPS and len({own.get(group) for own in options}) > 1


def read_words(run: Path) -> list[str] | None:
    """Returns the words that a run was started with; None where they are lost."""
    try:
        words = json.loads((run / "overrides.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return [word for word in words if isinstance(word, str)] if isinstance(words, list) else None


def options_of(words: Sequence[str]) -> dict[str, str]:
    """Returns the option that words take of each group, such as ``optimizer``.

    Args:
        words: Those that a run was started with.
    """
    given = {word.partition("=")[0].lstrip("+"): word.partition("=")[2] for word in words}
    extra = tuple(word.removeprefix(_FLAG) for word in words if word.startswith(_FLAG))
    options = _defaults() | _of_experiment(given.get("experiment", ""), extra) | given
    return {group: options[group] for group in _defaults()}


@lru_cache(maxsize=4096)
def _section(text: str) -> dict[str, Any]:
    try:
        content = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"config.yaml is no valid YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise ValueError("config.yaml is no configuration")
    return dict(dotted(content))


def dotted(section: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields what a configuration holds by dotted keys, those of constructors too.

    Args:
        section: A resolved configuration, or a part of one.
        path: The key of the part.
    """
    for key, value in section.items():
        where = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping):
            yield from dotted(value, where)
        elif key == CONSTRUCTOR or not str(key).startswith("_"):
            yield where, value


@cache
def _defaults() -> dict[str, str]:
    file = option_file(config_dirs(), PRIMARY)
    return default_options(file) if file else {}


@cache
def _of_experiment(name: str, extra: tuple[str, ...]) -> dict[str, str]:
    """Returns the options that a recipe takes in place of the defaults."""
    try:
        file = option_file(config_dirs(extra), f"experiment/{name}") if name else None
    except ConfigError:  # a folder of that time is gone
        return {}
    lines = file.read_text(encoding="utf-8").splitlines() if file else []
    matches = (_REPLACED.match(line) for line in lines)
    return {match[1]: match[2] for match in matches if match}
