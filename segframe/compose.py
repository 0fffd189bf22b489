"""Command-line words -> one checked configuration, before anything heavy is imported."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict

from segframe.options import PRIMARY, ConfigError, config_dirs

__all__ = ["ConfigError", "compose", "resolved"]

RUN_DIR_VARIABLE = "SEGFRAME_RUN_DIR"


def compose(overrides: Sequence[str], config_name: str = PRIMARY) -> DictConfig:
    """Returns the configuration that the words of a command line describe."""
    folders = config_dirs()
    with initialize_config_dir(config_dir=str(folders[0]), version_base="1.3"):
        config = hydra_compose(config_name, list(overrides), return_hydra_config=True)
    choices = OmegaConf.to_container(config.hydra.runtime.choices)
    with open_dict(config):
        del config["hydra"]
    assert isinstance(choices, dict)
    _freeze_run_dir(config, {str(group): str(option) for group, option in choices.items()})
    return config


def resolved(config: DictConfig) -> dict[str, Any]:
    """Returns the configuration as plain values, every interpolation replaced by what it stands for."""
    values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _freeze_run_dir(config: DictConfig, choices: dict[str, str]) -> None:
    """Names the run folder once: the clock and the chosen options stand in no later composition."""
    started = time.localtime()
    OmegaConf.register_new_resolver("now", lambda form: time.strftime(form, started), replace=True)
    OmegaConf.register_new_resolver("hydra_choice", lambda group: choices.get(group, "none"), replace=True)
    forced = os.environ.get(RUN_DIR_VARIABLE)
    config.run.dir = forced or config.run.dir
