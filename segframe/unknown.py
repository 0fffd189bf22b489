"""What to say about an option or a key that does not exist: what was probably meant, and what does exist."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from omegaconf import DictConfig

from segframe.options import did_you_mean

Groups = Mapping[str, Sequence[str]]
"""The options of every group, by the group's name."""


def unknown_option(group: str, option: str, offered: Groups) -> str:
    """Returns the message about an option that no folder has."""
    names = offered.get(group, ())
    if not names:
        return f"{group}={option}: there is no group `{group}`{did_you_mean(group, offered)}"
    elsewhere = [other for other in offered if option in offered[other]]
    hint = did_you_mean(option, names)
    if not hint and elsewhere:
        hint = f"; did you mean `{elsewhere[0]}={option}`?"
    return f"{group}={option}: there is no such option{hint} Options of {group}: {', '.join(names)}"


def unknown_key(key: str, config: DictConfig, offered: Groups, addable: bool) -> str:
    """Returns the message about a key that the composed configuration does not have.

    Args:
        key: The dotted key.
        config: The configuration that lacks it.
        offered: The options of every group.
        addable: Whether the constructor at that place would take it.
    """
    if addable:
        return f"{key}: not set in the configuration file, but taken by the constructor; write +{key}=VALUE"
    parent, siblings = _deepest(config, key)
    guess = nearest_key(key, [*_keys(config), *(g for g in offered if "." not in key)])
    hint = f"; did you mean `{guess}`?" if guess else ""
    names = ", ".join(siblings) or "none"
    where = f"Keys of {parent}" if parent else "Keys and groups at the root"
    return f"{key}: there is no such key{hint} {where}: {names}"


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


def _keys(node: DictConfig, prefix: str = "") -> list[str]:
    found = []
    for name in map(str, node):
        if name.startswith("_"):
            continue
        found.append(f"{prefix}{name}")
        inner = node._get_node(name)
        if isinstance(inner, DictConfig) and not (
            inner._is_none() or inner._is_missing() or inner._is_interpolation()
        ):
            found += _keys(inner, f"{prefix}{name}.")
    return found


def _deepest(config: DictConfig, key: str) -> tuple[str, list[str]]:
    """Returns the deepest existing section on the way to ``key`` and what it holds."""
    node, path = config, list[str]()
    for name in key.split(".")[:-1]:
        if name not in node or not isinstance(node._get_node(name), DictConfig):
            break
        node, path = node[name], [*path, name]
    return ".".join(path), [str(k) for k in node if not str(k).startswith("_")]
