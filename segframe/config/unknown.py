"""What to say about an option or a key that does not exist: what was probably meant, and what does exist."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from segframe.config.foreign import instead_of
from segframe.config.options import did_you_mean

Groups = Mapping[str, Sequence[str]]
"""The options of every group, by the group's name."""


def unknown_option(group: str, option: str, offered: Groups) -> str:
    """Returns the message about an option that no folder has."""
    if group not in offered:
        return f"{group}={option}: there is no group `{group}`{did_you_mean(group, offered)}"
    names = offered[group]
    if instead := instead_of(group, option):
        return f"{group}={option}: there is no such option. {instead}. Options of {group}: {', '.join(names)}"
    hint = did_you_mean(option, names)
    elsewhere = [f"{other}={option}" for other in offered if option in offered[other]]
    if elsewhere and not hint:
        hint = f"; did you mean `{elsewhere[0]}`?"
    return f"{group}={option}: there is no such option{hint or ';'} options of {group}: {', '.join(names) or 'none'}"


def unknown_key(key: str, config: DictConfig, offered: Groups, addable: bool) -> str:
    """Returns the message about a key that the composed configuration does not have.

    Args:
        key: The dotted key.
        config: The configuration that lacks it.
        offered: The options of every group.
        addable: Whether the constructor at that place would take it.
    """
    if addable:
        return f"{key}: no configuration file sets it, but the constructor takes it; write +{key}=VALUE"
    parent, node = _deepest(config, key)
    if not isinstance(node, DictConfig):
        return f"{key}: {parent} is a single value and has no keys; set {parent} itself"
    guess = nearest_key(key, [*all_keys(config), *(group for group in offered if "." not in key)])
    hint = f"; did you mean `{guess}`?" if guess else ";"
    where = f"keys of {parent}" if parent else "keys and groups at the root"
    names = [str(name) for name in node if not str(name).startswith("_")]
    names += [group for group in offered if not parent and group not in names]
    return f"{key}: there is no such key{hint} {where}: {', '.join(names) or 'none'}"


def has_key(config: DictConfig, key: str) -> bool:
    """Returns whether ``config`` has the dotted ``key``, whatever its value."""
    parent, node = _deepest(config, key)
    last = key.rpartition(".")[2]
    if isinstance(node, ListConfig):
        return last.isdigit() and int(last) < len(node)
    return parent == key.rpartition(".")[0] and isinstance(node, DictConfig) and last in map(str, node)


def nearest_key(key: str, known: Sequence[str]) -> str | None:
    """Returns the dotted key that was most likely meant: alike in its last word, best under the same parent.

    Example:
        >>> nearest_key("optimizer.learning_rate", ["optimizer.lr", "optimizer.eps", "scheduler.lr"])
        'optimizer.lr'
    """
    scored = sorted((-_likeness(key, other), other.count("."), other) for other in known)
    return scored[0][2] if scored and -scored[0][0] >= 0.62 else None


def _likeness(key: str, other: str) -> float:
    parent, _, leaf = key.rpartition(".")
    other_parent, _, other_leaf = other.rpartition(".")
    initials = {"".join(w[:1] for w in one.split("_")) for one in (leaf, other_leaf) if "_" in one}
    alike = 0.95 if initials & {leaf, other_leaf} else _ratio(leaf, other_leaf)
    return 0.75 * alike + 0.25 * (_ratio(parent, other_parent) if parent else 0.5)


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def all_keys(node: DictConfig, prefix: str = "") -> list[str]:
    """Returns every dotted key below ``node``, sections included."""
    found = []
    for name in map(str, node):
        if name.startswith("_"):
            continue
        found.append(f"{prefix}{name}")
        inner = node._get_node(name)
        if isinstance(inner, DictConfig) and not (inner._is_none() or inner._is_missing() or inner._is_interpolation()):
            found += all_keys(inner, f"{prefix}{name}.")
    return found


def _deepest(config: DictConfig, key: str) -> tuple[str, Any]:
    """Returns the deepest node on the way to the parent of ``key``, and its own key."""
    node, path = config, list[str]()
    for name in key.split(".")[:-1]:
        inner = _lookup(node, name)
        if inner is None:
            break
        node, path = inner, [*path, name]
        if not isinstance(node, DictConfig):
            break
    return ".".join(path), node


def _lookup(node: DictConfig, name: str) -> Any:
    try:
        return OmegaConf.select(node, name)
    except OmegaConfBaseException:
        return None
