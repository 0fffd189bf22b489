"""Which files of conf/ a command line picks, and the configuration that Hydra makes of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from hydra.version import setbase
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from segframe.config.options import ConfigError, key_line, option_file
from segframe.config.unknown import Groups, unknown_option
from segframe.wording import quoted


@dataclass
class Recipe:
    """Where a configuration comes from.

    Attributes:
        folders: The configuration folders, first come first served.
        offered: The options of every group.
        name: The file that everything starts from.
        primary: What that file holds.
        choices: The option of every group that the composition took.
    """

    folders: list[Path]
    offered: Groups
    name: str
    primary: DictConfig
    choices: dict[str, str] = field(default_factory=dict)

    def comment(self, key: str) -> str:
        """Returns the comment behind a key in the file that it was taken from, or an empty string."""
        group, _, rest = key.partition(".")
        names = [self.choices.get(group, ""), *self.offered.get(group, ())]
        places = [(self.name, key), *((f"{group}/{option}", rest) for option in names)]
        files = ((option_file(self.folders, name), inner) for name, inner in places)
        lines = (key_line(file, inner) for file, inner in files if file)
        return next((line[1] for line in lines if line and line[1]), "")


def primary_config(folders: Sequence[Path], name: str) -> DictConfig:
    """Returns what the file ``name`` holds by itself.

    Raises:
        ConfigError: If no folder has it, or it is no valid YAML.
    """
    file = option_file(folders, name)
    if file is None:
        raise ConfigError(f"there is no {name}.yaml in {' or '.join(map(str, folders))}")
    try:
        loaded = OmegaConf.load(file)
    except YAMLError as error:
        raise ConfigError(f"{file} is no valid YAML: {squeezed(error)}") from error
    assert isinstance(loaded, DictConfig)
    return loaded


def load(recipe: Recipe, options: Sequence[Override], problems: list[str]) -> DictConfig:
    """Returns the chosen files as one configuration, before any word that sets a single key.

    Args:
        recipe: Where to look; gets ``choices``.
        options: The words that choose options.
        problems: What is wrong already; grows by what is wrong with a word.

    Raises:
        ConfigError: If the files don't compose.
    """
    words = _option_words(recipe, options, problems)
    try:
        config = _loader(recipe.folders).load_configuration(recipe.name, words, RunMode.RUN, from_shell=False)
    except MissingConfigException as error:
        raise ConfigError(joined([*problems, _missing_option(error, recipe, options)])) from error
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(joined([*problems, squeezed(error.__cause__ or error)])) from error
    recipe.choices = {str(group): str(option) for group, option in config.hydra.runtime.choices.items()}
    with open_dict(config):
        del config["hydra"]
    return config


def _loader(folders: Sequence[Path]) -> ConfigLoaderImpl:
    # Hydra's compose() reads the primary file before it knows a second folder, and a user's folder comes first.
    setbase("1.3")
    Plugins.instance()
    search = ConfigSearchPathImpl()
    search.append("hydra", "pkg://hydra.conf")
    for folder in folders:
        search.append("main", f"file://{folder}")
    search.append("schema", "structured://")
    return ConfigLoaderImpl(search)


def _option_words(recipe: Recipe, options: Sequence[Override], problems: list[str]) -> list[str]:
    defaults = default_groups(recipe.primary)
    words = []
    for override in options:
        group, value = override.key_or_group, override.value()
        if value is None:
            if defaults.get(group) != "optional":
                names = ", ".join(recipe.offered[group])
                problems.append(f"{group}=null: one of its options is needed: {names}")
            continue
        # A group's sign follows from whether it has a default, so both ways of writing it work.
        sign = "" if group in defaults else "+"
        chosen = ",".join(quoted(str(v)) for v in (value if isinstance(value, list) else [value]))
        package = f"@{override.package}" if override.package else ""
        words.append(f"{sign}{group}{package}=" + (f"[{chosen}]" if isinstance(value, list) else chosen))
    return words


def default_groups(primary: DictConfig) -> dict[str, str]:
    """Returns the groups of a defaults list, and whether each is ``optional`` or ``required``."""
    entries = [entry for entry in primary.get("defaults", ()) if isinstance(entry, DictConfig)]
    names = [str(key) for entry in entries for key in entry]
    return {n.split()[-1].lstrip("/"): "optional" if n.startswith("optional ") else "required" for n in names}


def _missing_option(error: MissingConfigException, recipe: Recipe, options: Sequence[Override]) -> str:
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    asks = re.compile(rf"{re.escape(group)}\s*:\s*{re.escape(option)}\b")
    files = (option_file(recipe.folders, f"{o.key_or_group}/{o.value()}") for o in options)
    # Hydra names the primary file, even where an experiment asks for the option.
    asking = next((f"{file}: " for file in files if file and asks.search(file.read_text(encoding="utf-8"))), "")
    return asking + unknown_option(group, option, recipe.offered)


def squeezed(error: BaseException) -> str:
    """Returns a library's error in one line."""
    return " ".join(str(error).partition("\n    full_key")[0].split())


def joined(problems: Sequence[str]) -> str:
    """Returns one message for all problems."""
    distinct = list(dict.fromkeys(problems))
    if len(distinct) == 1:
        return distinct[0]
    return f"{len(distinct)} problems:" + "".join(f"\n  - {problem}" for problem in distinct)
