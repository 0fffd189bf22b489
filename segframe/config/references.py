"""Values that are taken from other keys: the ``count`` resolver, and one message for one mistake."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

_KEY = re.compile(r"[^\s=:]+")
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def count(values: Any) -> int:
    """Returns the number of entries of a list: ``${count:${dataset.classes}}`` in a configuration file.

    Raises:
        ValueError: If it is no list, or an empty one.
    """
    if not isinstance(values, ListConfig | list) or not values:
        raise ValueError(f"count needs a list with one or more entries, got {values!r}")
    return len(values)


def without_echoes(messages: Sequence[str], config: DictConfig) -> list[str]:
    """Returns messages that name the key where a wrong value stands, not every key that takes it from there.

    Args:
        messages: Each begins with the key that it is about.
        config: The configuration, with interpolations.
    """
    keys = [match[0] if (match := _KEY.match(message)) else "" for message in messages]
    sources = [_source(config, key) for key in keys]
    wrong = {*keys, *sources}
    kept = []
    for message, key, source in zip(messages, keys, sources, strict=True):
        needed = set(_REFERENCE.findall(_raw(config, source)))
        if needed & (wrong - {key, source}) or (source != key and source in keys):
            continue
        kept.append(source + message.removeprefix(key))
    return list(dict.fromkeys(kept))


def _source(config: DictConfig, key: str) -> str:
    """Returns the key that a value is taken from, through any number of others; itself if from none."""
    visited = {key}
    while match := _REFERENCE.fullmatch(_raw(config, key)):
        if match[1] in visited or not _raw(config, match[1]):
            break
        key = match[1]
        visited.add(key)
    return key


def _raw(config: DictConfig, key: str) -> str:
    """Returns what stands at a key before it is resolved, as text; nothing where there is no such key."""
    parent, _, leaf = key.rpartition(".")
    try:
        section = OmegaConf.select(config, parent) if parent else config
        node = section._get_node(leaf) if isinstance(section, DictConfig) else None
    except OmegaConfBaseException:
        return ""
    return "" if node is None else str(node._value())


OmegaConf.register_new_resolver("count", count, replace=True)
