"""Looks for what trials read, before the first starts: each would take its time to find that it is not there."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from segframe.config.options import ConfigError

_OWN = "segframe.data."  # a data set of somebody else's may make its folder

_LOGGERS = ("wandb", "tensorboard")  # each needs the package of its name


def check_sources(values: Mapping[str, Any]) -> None:
    """Checks that the folder of the data, the weights to begin with and the logger's package are there.

    Args:
        values: The resolved configuration of a trial.

    Raises:
        ConfigError: If one is not.
    """
    weights, root = values["init_from"], values["dataset"].get("root")
    if weights and not Path(weights).exists():
        raise ConfigError(f"init_from={weights}: there is no such checkpoint or run folder")
    logger = str((values["logger"] or {}).get("_target_"))
    for name in _LOGGERS:
        if logger.startswith(f"segframe.loggers.{name}.") and find_spec(name) is None:
            raise ConfigError(f"logger={name} needs a package that is not installed: pip install 'segframe[{name}]'")
    target = values["dataset"]["train"].get("_target_", "")
    if isinstance(root, str) and target.startswith(_OWN) and not Path(root).expanduser().exists():
        _let_tell(target, values["dataset"]["train"])
        raise ConfigError(f"dataset.root={root}: there is no such folder")


def _let_tell(target: str, section: Mapping[str, Any]) -> None:
    """Lets a data set itself tell what it expects and what is there instead."""
    module, _, name = target.rpartition(".")
    words = {key: value for key, value in section.items() if not key.startswith("_")}
    try:
        getattr(import_module(module), name)(**words)
    except (OSError, ValueError) as error:
        raise ConfigError(str(error)) from None
