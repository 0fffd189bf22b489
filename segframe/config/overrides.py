"""The words of a command line: KEY=VALUE, GROUP=OPTION, and what to say about those that are neither."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from functools import cache

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from segframe.config.options import nearest
from segframe.config.unknown import Groups, unknown_option

_FLAGS = ("--help", "--version", "--cfg", "--config-dir", "--multirun")
_FORM = "write KEY=VALUE, such as optimizer.lr=0.01, or GROUP=OPTION, such as model=segnet"
_PLAIN = re.compile(r"""[^'"\[\]{}(),\\$]+""")
_REPLACED = {
    "hydra.run.dir": "run.dir=PATH names the run folder",
    "hydra.sweep.dir": "sweep.dir=PATH names the folder of a sweep (segframe sweep)",
    "hydra.searchpath": "--config-dir DIR adds a folder of options",
}


def parse(words: Sequence[str], offered: Groups) -> tuple[list[Override], dict[str, str]]:
    """Reads words in Hydra's grammar; of a key or group that is given twice, the last one counts.

    Args:
        words: What stands on the command line.
        offered: The options of every group.

    Returns:
        The overrides that are sound, and a message for the key or group of every other word.
    """
    kept: dict[str, Override] = {}
    problems: dict[str, str] = {}
    for word in words:
        override, problem = None, _malformed(word, offered)
        if problem is None:
            override = read(word)
            problem = _unreadable(word) if override is None else _misused(override, offered)
        if problem is not None or override is None:
            problems[name_of(word)] = str(problem)
            continue
        name = override.key_or_group
        earlier = kept.pop(name, None)
        # Two mappings for one key are merged, as in a configuration file.
        if earlier and isinstance(override.value(), dict):
            kept[f"{name} {len(kept)}"] = earlier
        kept[name] = override
    return list(kept.values()), problems


def name_of(word: str) -> str:
    """Returns the key or group that a word sets.

    Example:
        >>> name_of("++optimizer.lr=0.1")
        'optimizer.lr'
    """
    return word.partition("=")[0].lstrip("+~").strip()


def value_of(word: str) -> str:
    """Returns the text behind the first ``=``, without one pair of quotes around it."""
    text = word.partition("=")[2].strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def last_wins(words: Sequence[str]) -> list[str]:
    """Returns the words without those whose key or group a later word sets again."""
    latest = {word if word.startswith("-") else name_of(word): index for index, word in enumerate(words)}
    return [words[index] for index in sorted(latest.values())]


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def read(word: str) -> Override | None:
    """Returns what a word sets, or None where it can't be read.

    Hydra's grammar has no ``~`` before a path and no letters but ASCII's. Text without any of the signs that
    mean something in it is taken as it stands, as it would be between quotes.
    """
    key, _, value = word.partition("=")
    for text in (word, f"{key}='{value.strip()}'" if _PLAIN.fullmatch(value) else None):
        with suppress(HydraException):
            if text is not None:
                override = _parser().parse_override(text)
                override.input_line = word
                return override
    return None


def _malformed(word: str, offered: Groups) -> str | None:
    name = name_of(word)
    if word.startswith("-"):
        flag = word.partition("=")[0]
        guess = nearest(flag, _FLAGS, cutoff=0.7)
        hint = f"did you mean `{guess}`?" if guess else f"settings take no dashes: {name.lstrip('-')}=VALUE;"
        return f"{flag}: there is no such flag; {hint} flags: {', '.join(_FLAGS)}"
    if word.startswith("="):
        return f"`{word}`: nothing stands before `=`; {_FORM}, without blanks around `=`"
    if "=" in word or word.startswith("~"):
        return None
    homes = [group for group, names in offered.items() if name in names]
    if homes:
        hint = " or ".join(f"`{group}={name}`" for group in homes)
        return f"`{word}`: no `=` in it; did you mean {hint}?"
    if name in offered:
        return f"`{word}`: no `=` in it; write {name}=OPTION; options: {', '.join(offered[name])}"
    return f"`{word}`: no `=` in it; {_FORM}"


def _unreadable(word: str) -> str:
    key, _, value = word.partition("=")
    if not re.fullmatch(r"[+~]*[\w./@-]+", key, re.ASCII):
        return f"`{word}`: `{key}` is no key; keys are names joined by dots, such as optimizer.lr"
    if value[:1] in ("[", "{"):
        return (
            f"`{word}`: the value can't be read; entries with signs stand in quotes, such as ['a=b', c], and keys of a "
            "mapping without, with \\ before each comma in them; or write it in a YAML file (--config-dir DIR)"
        )
    quote = '"' if "'" in value else "'"
    bare = value.strip("'\"").replace(quote, "\\" + quote)
    shell = f'"{key}={quote}{bare}{quote}"' if "'" not in bare else shlex.quote(f"{key}={quote}{bare}{quote}")
    return f"`{word}`: the value can't be read (quotes, brackets, commas?); as text it is {shell}"


def _misused(override: Override, offered: Groups) -> str | None:
    word, name = override.input_line, override.key_or_group
    if name.split(".")[0] == "hydra":
        return f"`{word}`: Hydra's own keys do nothing here; {_REPLACED.get(name, 'remove it')}"
    if override.is_sweep_override():
        return (
            f"`{word}`: one run takes one value; a list is {name}=[...], text with commas \"{name}='...'\"; -m trains "
            "with each"
        )
    if name not in offered or isinstance(override.value(), dict):
        return None
    if override.is_delete():
        return f"`{word}`: a group can't be left out; options: {', '.join(offered[name])}"
    value = override.value()
    for option in value if isinstance(value, list) else [value]:
        if option is not None and str(option) not in offered[name]:
            return unknown_option(name, str(option), offered)
    return None
