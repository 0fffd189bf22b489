"""What the configuration folders offer: groups, their options, and the comments that explain them."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

PRIMARY = "train"
"""The name of the file of conf/ that every run starts from."""

DIR_FLAG = "--config-dir"
"""The flag that names a further configuration folder."""

DIRS_VARIABLE = "SEGFRAME_CONFIG_DIR"
"""The environment variable that names further configuration folders."""


class ConfigError(ValueError):
    """A command line or configuration file that can't be run; the message is written for its author."""


def shipped_dir() -> Path:
    """Returns segframe's own conf folder: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / f"{PRIMARY}.yaml").is_file():
            return folder
    raise ConfigError(
        f"segframe's configuration files are missing: neither {package / 'conf'} nor "
        f"{package.parent / 'conf'} holds {PRIMARY}.yaml; install segframe again"
    )


def config_dirs(extra: Sequence[str] = ()) -> list[Path]:
    """Returns the folders to look for options in; the first one that has a file wins.

    Args:
        extra: The user's own folders; those of ``SEGFRAME_CONFIG_DIR`` follow, segframe's own comes last.

    Raises:
        ConfigError: If a folder does not exist.
    """
    named = [(text, DIR_FLAG) for text in extra]
    named += [(text, DIRS_VARIABLE) for text in os.environ.get(DIRS_VARIABLE, "").split(os.pathsep) if text]
    folders = []
    for text, source in named:
        folder = Path(text).expanduser().absolute()
        if not folder.is_dir():
            raise ConfigError(
                f"{source}={text} is no folder; name one that holds GROUP/OPTION.yaml files, such as model/mine.yaml"
            )
        folders.append(folder)
    return list(dict.fromkeys([*folders, shipped_dir()]))


def with_config_dirs(words: Sequence[str]) -> list[str]:
    """Writes folders of options as absolute ``--config-dir=`` words, so that a run's record finds them again.

    Args:
        words: Of a command line.

    Raises:
        ConfigError: If the flag names no folder.
    """
    folders, others = [], []
    rest = iter(words)
    for word in rest:
        if word == DIR_FLAG:
            folders.append(next(rest, ""))
        elif word.startswith(f"{DIR_FLAG}="):
            folders.append(word.partition("=")[2])
        else:
            others.append(word)
    if not all(folders):
        raise ConfigError(f"{DIR_FLAG} needs a folder: {DIR_FLAG} DIR")
    folders += [text for text in os.environ.get(DIRS_VARIABLE, "").split(os.pathsep) if text]
    paths = dict.fromkeys(str(Path(folder).expanduser().absolute()) for folder in folders)
    return [*others, *(f"{DIR_FLAG}={path}" for path in paths)]


def groups(folders: Iterable[Path]) -> dict[str, list[str]]:
    """Returns the options of every group, sorted; nested groups are named ``outer/inner``."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for file in folder.rglob("*.yaml"):
            group = file.parent.relative_to(folder).as_posix()
            if group != "." and not any(part.startswith(".") for part in file.relative_to(folder).parts):
                found.setdefault(group, set()).add(file.stem)
    return {group: sorted(found[group]) for group in sorted(found)}


def groups_of(primary: str, folders: Sequence[Path]) -> dict[str, list[str]]:
    """Returns the groups that configurations from the file ``primary`` choose from.

    A group beside a file of its own name, such as sweep/ beside sweep.yaml, is that file's alone.

    Args:
        primary: The file of conf/ to start from.
        folders: The configuration folders.
    """
    found = groups(folders)
    own = {group for group in found if option_file(folders, group) is not None}
    return {g: names for g, names in found.items() if (g == primary if g in own or primary != PRIMARY else True)}


def option_file(folders: Iterable[Path], name: str) -> Path | None:
    """Returns the file of ``name``, such as ``model/pspnet`` or ``train``, if there is one."""
    files = (folder / f"{name}.yaml" for folder in folders)
    return next((file for file in files if file.is_file()), None)


def summary(file: Path) -> str:
    """Returns the first comment line of a configuration file, which says what the option is."""
    for line in file.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if text.startswith("#") and not text.startswith("# @"):
            return text.lstrip("# ")
        if text and not text.startswith("#"):
            break
    return ""


def key_line(file: Path, key: str) -> tuple[str, str] | None:
    """Returns what stands behind ``key`` (dotted, as nested in the file) in its line: the value, the comment."""
    wanted = key.split(".")
    path: list[tuple[int, str]] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        match = re.match(r"( *)([\w/-]+):(?:\s+(.*))?$", line)
        if match is None:
            continue
        indent = len(match[1])
        path = [(i, name) for i, name in path if i < indent] + [(indent, match[2])]
        if [name for _, name in path] == wanted:
            value, _, comment = f" {match[3] or ''}".partition(" #")
            return value.strip(), comment.strip()
    return None


def default_options(file: Path) -> dict[str, str]:
    """Returns the option that every group of a defaults list starts from; ``null`` for none."""
    pattern = re.compile(r"\s*- (?:optional )?/?([\w/]+): *([^\s#]+)")
    matches = (pattern.match(line) for line in file.read_text(encoding="utf-8").splitlines())
    return {match[1]: match[2] for match in matches if match}


def nearest(wanted: str, names: Iterable[str], cutoff: float = 0.55) -> str | None:
    """Returns the name that ``wanted`` was most likely meant to be, if any is near.

    Example:
        >>> nearest("dpp", ["ddp", "fsdp", "single"])
        'ddp'
    """
    scored = [(_likeness(wanted.lower(), n.lower()), _likeness(wanted, n), n) for n in names]
    best = max(scored, default=(0.0, 0.0, ""))
    return best[-1] if best[0] >= cutoff else None


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def did_you_mean(wanted: str, names: Iterable[str]) -> str:
    """Returns a ``; did you mean ...?`` to append to a message, or an empty string."""
    name = nearest(wanted, names)
    return f"; did you mean `{name}`?" if name else ""
