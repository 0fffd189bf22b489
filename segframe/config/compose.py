"""Command-line words -> one checked configuration, before anything heavy is imported."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from segframe.config import schema
from segframe.config.options import PRIMARY, ConfigError, config_dirs, did_you_mean, groups_of
from segframe.config.overrides import parse
from segframe.config.recipe import Recipe, default_groups, joined, load, primary_config, squeezed
from segframe.config.references import without_echoes
from segframe.config.rerun import run_overrides
from segframe.config.signatures import read_signature
from segframe.config.unknown import Groups, all_keys, has_key, nearest_key, unknown_key
from segframe.ranks import RUN_DIR_VARIABLE
from segframe.wording import quoted

__all__ = ["ConfigError", "compose", "compose_resume", "resolved", "run_overrides"]


def compose(overrides: Sequence[str], config_name: str = PRIMARY) -> DictConfig:
    """Returns the checked configuration that the words of a command line describe.

    Of a key or group that is given twice the last one counts. The run folder's name is decided here;
    other interpolations stay.

    Args:
        overrides: ``KEY=VALUE``, ``GROUP=OPTION``, and ``--config-dir=DIR`` for folders of own options.
        config_name: The file of conf/ to start from.

    Raises:
        ConfigError: If any of it is not right; the message lists everything that is not.
    """
    return _compose(overrides, config_name, os.environ.get(RUN_DIR_VARIABLE))


def compose_resume(run: str | Path, overrides: Sequence[str], for_training: bool = True) -> DictConfig:
    """Returns the configuration of an earlier run, with ``overrides`` over what it was started with.

    Args:
        run: The run folder.
        overrides: Words that replace or join those of the run.
        for_training: Whether the run goes on (``resume`` names the folder) or is only looked at.

    Raises:
        ConfigError: If ``run`` is no run folder, or the configuration is not right.
    """
    words = [*run_overrides(run, overrides), *([f"resume={quoted(str(run))}"] if for_training else [])]
    return _compose(words, PRIMARY, str(run))


def resolved(config: DictConfig) -> dict[str, Any]:
    """Returns the configuration as plain values, every interpolation replaced by what it stands for."""
    values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _compose(words: Sequence[str], config_name: str, run_dir: str | None) -> DictConfig:
    flag = "--config-dir="
    folders = config_dirs([word.removeprefix(flag) for word in words if word.startswith(flag)])
    primary = primary_config(folders, config_name)
    offered = {group: list[str]() for group in default_groups(primary)} | groups_of(config_name, folders)
    recipe = Recipe(folders, offered, config_name, primary)
    parsed, refused = parse([word for word in words if not word.startswith(flag)], offered)
    options = [o for o in parsed if o.key_or_group in offered and not isinstance(o.value(), dict)]
    problems = [*refused.values()]
    config = load(recipe, options, problems)
    # What a refused option would have brought is unknown, so words below it are not judged.
    judged = [o for o in parsed if o not in options and o.key_or_group.split(".")[0] not in refused]
    for override in judged:
        problems += _apply(config, override, offered)
    _freeze(config, recipe, run_dir)
    problems += _unread(config, recipe)
    found: list[str] = []
    values = _plain(config, "", found, recipe)
    found = without_echoes([*found, *schema.violations(values)], config)
    problems += [text for text in found if refused.keys().isdisjoint((text.split(".")[0], text.split()[0]))]
    if problems:
        raise ConfigError(joined(problems))
    return config


def _apply(config: DictConfig, override: Override, offered: Groups) -> list[str]:
    """Sets one key; returns what is wrong with it."""
    key, value, word = override.key_or_group, override.value(), override.input_line
    is_there, present = has_key(config, key), _lookup(config, key)
    if not (override.is_add() or override.is_force_add()):
        # A mapping for a key that holds no section is one value, such as a data set's label_map.
        inner = [key] if is_there and not isinstance(present, DictConfig) else _inner_keys(key, value)
        unknown = [k for k in inner if not has_key(config, k)]
        if unknown:
            return [unknown_key(k, config, offered, _is_taken(config, k)) for k in unknown]
    if override.is_add() and is_there and not isinstance(value, dict | list):
        return [f"{word}: {key} is there already; write it without +"]
    if isinstance(present, DictConfig) and not override.is_delete() and not isinstance(value, dict | None):
        names = ", ".join(f"{key}.{name}" for name in _names(present))
        return [f"{word}: {key} is a section; set one of its keys: {names or f'+{key}.NAME=VALUE'}"]
    try:
        ConfigLoaderImpl._apply_overrides_to_config([override], config)
    except (HydraException, OmegaConfBaseException) as error:
        return [f"{word}: {squeezed(error.__cause__ or error)}"]
    return []


def _inner_keys(key: str, value: Any) -> list[str]:
    """Returns the dotted keys that a word sets: several where its value is a mapping."""
    if not isinstance(value, dict) or not value:
        return [key]
    return [inner for name in value for inner in _inner_keys(f"{key}.{name}", value[name])]


def _names(section: DictConfig) -> list[str]:
    return [str(key) for key in section if not str(key).startswith("_")]


def _lookup(config: DictConfig, key: str) -> Any:
    try:
        return OmegaConf.select(config, key)
    except OmegaConfBaseException:
        return None


def _is_taken(config: DictConfig, key: str) -> bool:
    """Whether the constructor that ``key`` is meant for has such an argument."""
    parent, _, leaf = key.rpartition(".")
    section = _lookup(config, parent) if parent else None
    if not isinstance(section, DictConfig) or not isinstance(section.get("_target_"), str):
        return False
    try:
        signature = read_signature(section["_target_"])
    except LookupError:
        return False
    return signature is not None and leaf in signature.parameters


def _unread(config: DictConfig, recipe: Recipe) -> Iterator[str]:
    """Yields a message for every key at the root that neither code nor another key reads."""
    known = [*(str(k) for k in recipe.primary), *(group.split("/")[0] for group in recipe.offered)]
    text = OmegaConf.to_yaml(config)
    for key in map(str, config):
        if key not in known and not re.search(r"\$\{" + re.escape(key) + r"[.}]", text):
            yield f"{key}: nothing reads such a key{did_you_mean(key, known)}"


def _freeze(config: DictConfig, recipe: Recipe, run_dir: str | None) -> None:
    """Names the run folder once: a later composition has another clock and other options."""
    started, choices = time.localtime(), recipe.choices
    OmegaConf.register_new_resolver("now", lambda form: time.strftime(form, started), replace=True)
    OmegaConf.register_new_resolver("hydra_choice", lambda group: choices.get(group, "none"), replace=True)
    section = config.get("run")
    if isinstance(section, DictConfig):
        if run_dir is not None:
            section.dir = run_dir
        for key in section:
            # What can't be resolved stays, to be reported with everything else.
            with suppress(OmegaConfBaseException):
                section[key] = section[key]


def _plain(node: DictConfig | ListConfig, path: str, problems: list[str], recipe: Recipe) -> Any:
    """Returns plain values, ``schema.ABSENT`` for those that join ``problems``."""
    keys = list(node) if isinstance(node, DictConfig) else list(range(len(node)))
    values: dict[Any, Any] = {}
    for key in keys:
        where = f"{path}.{key}" if path else str(key)
        values[key] = schema.ABSENT
        if OmegaConf.is_missing(node, key):
            problems.append(_needed(where, recipe))
            continue
        try:
            value = node[key]
        except InterpolationToMissingValueError:
            continue
        except OmegaConfBaseException as error:
            problems.append(_unresolved(where, node._get_node(key), error))
            continue
        is_section = isinstance(value, DictConfig | ListConfig)
        values[key] = _plain(value, where, problems, recipe) if is_section else value
    return values if isinstance(node, DictConfig) else list(values.values())


def _needed(key: str, recipe: Recipe) -> str:
    comment = recipe.comment(key)
    return f"{key} is needed{f' ({comment})' if comment else ''}; add {key}=VALUE"


def _unresolved(key: str, node: Any, error: OmegaConfBaseException) -> str:
    text = f"{key}: {node._value() if node is not None else ''} can't be resolved: {squeezed(error)}"
    missing = re.search(r"Interpolation key '([^']+)' not found", str(error))
    if missing is None or node is None:
        return text
    guess = nearest_key(missing[1], all_keys(node._get_root()))
    return text + (f"; did you mean ${{{guess}}}?" if guess else "")
