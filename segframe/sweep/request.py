"""What the words of ``segframe sweep`` ask for."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, overload

from segframe.config.compose import compose, resolved
from segframe.config.options import (
    PRIMARY,
    ConfigError,
    config_dirs,
    default_options,
    groups_of,
    option_file,
    shipped_dir,
)
from segframe.config.overrides import name_of, value_of
from segframe.config.overrides import read as read_word
from segframe.sweep.axes import Axis
from segframe.sweep.settings import FINITE, Ray, Searching, Settings, Slurm
from segframe.sweep.space import from_file, split

GROUP = "sweep"
"""The group of conf/ that holds searches, and the section of their keys."""

_FLAG = "--config-dir="
_OF_EACH = {
    "resume": "a sweep goes on by the same command again",
    "run.dir": "each trial has a folder below sweep.dir, which names the sweep's",
}
_NEVER_COMPARED = ("trials", "parallel", "launcher", "retries", "dir", "slurm", "ray", "words", "space", "search")
_METRICS = tuple(f"val/{name}" for name in ("miou", "pixel_accuracy", "mean_accuracy", "dice", "fwiou", "loss"))
_FOR_WANDB = (
    "sweep=wandb: {file} is read by wandb, whose own agent starts the trainings: `wandb sweep {file}`, then the "
    "`wandb agent ...` that it prints. For a search of segframe's own that wandb shows, give sweep=optuna_lr "
    "logger=wandb."
)


@dataclass(frozen=True)
class Request:
    """A sweep as its words describe it.

    Attributes:
        name: The option of the group ``sweep``.
        settings: The keys ``sweep.*``.
        axes: What is tried, in order.
        words: The training words that all trials share.
        own_words: The words as they were given.
    """

    name: str
    settings: Settings
    axes: tuple[Axis, ...]
    words: tuple[str, ...]
    own_words: tuple[str, ...]

    @property
    def needs_optuna(self) -> bool:
        """Whether more is asked for than to enumerate."""
        search = self.settings.search
        return search.sampler != FINITE or search.pruner != "none" or search.storage is not None

    @property
    def most_trials(self) -> int | None:
        """How many trials there can be; None where there is always another one."""
        if self.settings.search.sampler != FINITE:
            return None
        return math.prod(len(axis.all_values()) for axis in self.axes)

    @property
    def num_trials(self) -> int:
        """How many trials there will be."""
        found = [number for number in (self.settings.trials, self.most_trials) if number is not None]
        return min(found)

    def identity(self) -> dict[str, Any]:
        """Returns what makes this search another one than the next: not how many trials, where or how often."""
        settings = self.settings
        search = asdict(settings.search) | {"storage": without_password(settings.search.storage)}
        if not self.needs_optuna:
            search = {"sampler": FINITE}
        kept = {key: value for key, value in asdict(settings).items() if key not in _NEVER_COMPARED}
        space = [{"key": axis.name, "values": axis.as_json()} for axis in self.axes]
        return {**kept, "search": search, "space": space, "words": sorted(self.words)}

    @property
    def folder(self) -> Path:
        """The sweep folder."""
        if self.settings.dir is not None:
            return Path(self.settings.dir).expanduser()
        text = json.dumps(self.identity(), sort_keys=True)
        return Path("outputs/sweeps") / f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def read(words: Sequence[str]) -> Request:
    """Returns what words ask for.

    Args:
        words: Those behind ``segframe sweep``.

    Raises:
        ConfigError: If a word of the sweep is not right, or there is nothing to try.
    """
    own = [word for word in words if _is_own(word)]
    for word in own:
        _check_one_value(word)
    flags = [word for word in words if word.startswith(_FLAG)]
    for_trials = [word for word in words if not _is_own(word)]
    name = _option(own, flags)
    settings = _settings(resolved(compose([*flags, *own], GROUP))[GROUP])
    for word in [*for_trials, *settings.words, *map(str, settings.space)]:
        if (key := name_of(word)) in _OF_EACH:
            raise ConfigError(f"{word}: {_OF_EACH[key]}; leave {key} out")
        if _is_own(word):
            raise ConfigError(f"{word}: words of trials are those of `segframe train`; set {key} beside them")
    offered = groups_of(PRIMARY, config_dirs([flag.removeprefix(_FLAG) for flag in flags]))
    axes, fixed = split([*settings.words, *for_trials], offered)
    given = {axis.key for axis in axes} | {name_of(word) for word in fixed}
    # What the command line says of a key counts more than the file.
    axes = [axis for axis in from_file(settings.space, offered) if axis.key not in given] + axes
    request = Request(name, settings, tuple(axes), tuple(fixed), tuple(words))
    _check(request)
    return request


@overload
def without_password(url: str) -> str: ...
@overload
def without_password(url: None) -> None: ...
def without_password(url: str | None) -> str | None:
    """Returns a database's URL without its password.

    Example:
        >>> without_password("postgresql://me:secret@host/studies")
        'postgresql://me:***@host/studies'
    """
    if url is None:
        return None
    return re.sub(r"([?&]password=)[^&]*", r"\1***", re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url))


def _is_own(word: str) -> bool:
    name = name_of(word)
    return not word.startswith("-") and (name == GROUP or name.startswith(f"{GROUP}."))


def _check_one_value(word: str) -> None:
    """Refuses a list for a key of the sweep itself, and a key that is left out."""
    override = read_word(word)
    if override is not None and override.is_delete() and name_of(word) != GROUP:
        raise ConfigError(f"`{word}`: no key of the sweep can be left out; give it another value, without ~")
    if override is not None and override.is_sweep_override():
        raise ConfigError(
            f"`{word}`: each key of the sweep itself takes one value; lists are for words of trainings, such as "
            f"seed=0,1,2 (text with commas stands in quotes: \"{name_of(word)}='...'\")"
        )


def _option(own: Sequence[str], flags: Sequence[str]) -> str:
    """Returns the option of the group ``sweep`` that the words choose."""
    chosen = [value_of(word) for word in own if name_of(word) == GROUP and value_of(word)[:1] != "{"]
    if "wandb" in chosen:
        raise ConfigError(_FOR_WANDB.format(file=os.path.relpath(shipped_dir() / GROUP / "wandb.yaml")))
    file = option_file(config_dirs([flag.removeprefix(_FLAG) for flag in flags]), GROUP)
    assert file is not None
    return chosen[-1] if chosen else default_options(file)[GROUP]


def _settings(values: dict[str, Any]) -> Settings:
    sections = {"search": Searching, "slurm": Slurm, "ray": Ray}
    for name in sections:
        if not isinstance(values[name], Mapping):
            raise ConfigError(
                f"sweep.{name}={json.dumps(values[name])}: it is a section; leave it out, or set its keys"
            )
    return Settings(**{key: sections[key](**v) if key in sections else v for key, v in values.items()})


def _check(request: Request) -> None:
    """Checks what the settings and the axes ask of each other.

    Raises:
        ConfigError: If they don't fit.
    """
    settings = request.settings
    _check_metric(settings)
    if settings.dir is not None and not settings.dir.strip():
        raise ConfigError("sweep.dir is empty; give a folder, or leave it out")
    if "${" in str(request.folder.absolute()):
        raise ConfigError(f"sweep.dir={request.folder}: words of trials can't name a folder with ${{; give another one")
    if not request.axes:
        compose(request.words)  # a list that can't be read is none
        if settings.space:
            searched = ", ".join(settings.space)
            raise ConfigError(f"there is nothing to try: the words give one value for all of sweep.space ({searched})")
        raise ConfigError(
            "there is nothing to try: give a list of values, such as seed=0,1,2 or model=pspnet,segnet"
            + (
                ""
                if settings.search.sampler == FINITE
                else ", or an interval, such as optimizer.lr=interval(1e-4,1e-1)"
            )
            + "; one training is `segframe train`"
        )
    if settings.search.sampler == FINITE:
        for axis in request.axes:
            axis.all_values()
    elif settings.trials is None:
        raise ConfigError(f"sweep.search.sampler={settings.search.sampler} never ends: give sweep.trials=N")


def _check_metric(settings: Settings) -> None:
    """Checks the metric's name as far as that goes without a training; one may log further ones."""
    wanted, kept = settings.metric, _letters(settings.metric)
    if not kept:
        raise ConfigError("sweep.metric is empty; give a column of metrics.csv, such as val/miou")
    meant = next((n for n in _METRICS if kept in (_letters(n), _letters(n.partition("/")[2]))), wanted)
    if meant != wanted:
        raise ConfigError(f"sweep.metric={wanted}: there is no such column of metrics.csv; did you mean `{meant}`?")
    if wanted.endswith("/loss") and settings.is_higher_better:
        raise ConfigError(f"sweep.metric={wanted}: a smaller loss is better; give sweep.direction=minimize")


def _letters(name: str) -> str:
    """Returns a name without what tells one way of writing it from another."""
    return re.sub(r"[\W_]", "", name.casefold())
