"""What a sweep varies: the axes of its space, from words in Hydra's grammar and from the file of a search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    Quote,
    QuotedString,
    RangeSweep,
)

from segframe.config.options import ConfigError, did_you_mean
from segframe.config.overrides import read
from segframe.config.recipe import joined
from segframe.config.unknown import Groups
from segframe.sweep.axes import Axis, Choices, Range, steps

_RANGE_KEYS = ("low", "high", "log", "step", "type")


def split(words: Sequence[str], offered: Groups) -> tuple[list[Axis], list[str]]:
    """Returns the axes among training words, and the other words; of a key given twice the last one counts.

    Args:
        words: Words of the verb train, in Hydra's grammar.
        offered: The options of every group.

    Raises:
        ConfigError: If a list can't be an axis.
    """
    found: dict[str, Axis | str] = {}
    problems = []
    for word in words:
        override = None if word.startswith("--") else read(word)
        key = word if override is None else override.key_or_group + (f"@{override.package}" * bool(override.package))
        try:
            is_axis = override is not None and override.is_sweep_override()
            found[key] = _axis(override, offered) if is_axis and override is not None else word
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(joined(problems))
    entries = found.values()
    return [e for e in entries if not isinstance(e, str)], [e for e in entries if isinstance(e, str)]


def from_file(space: Mapping[str, Any], offered: Groups) -> list[Axis]:
    """Returns the axes of ``sweep.space``.

    Args:
        space: By key a list of values, ``{low, high, log, step, type}``, or text in Hydra's grammar.
        offered: The options of every group.

    Raises:
        ConfigError: If an entry is none of these.
    """
    axes: list[Axis] = []
    for name, entry in space.items():
        where = f"sweep.space.{name}"
        if isinstance(entry, str):
            found, others = split([f"{name}={entry}"], offered)
            if others:
                raise ConfigError(f"{where}={entry}: one value is no axis; put {others[0]} under sweep.words")
            axes += found
        elif isinstance(entry, list):
            texts = tuple(Override._get_value_element_as_str(_quoted(value)) for value in entry)
            axes.append(_choices(str(name), tuple(entry), texts, where))
        elif isinstance(entry, Mapping):
            axes.append(_from_mapping(str(name), entry, where))
        else:
            raise ConfigError(f"{where}={entry}: expected a list of values, or low and high, such as [1e-3, 1e-2]")
    return axes


def _axis(override: Override, offered: Groups) -> Axis:
    value: Any = override.value()
    name, word = override.get_key_element(), str(override.input_line)
    if override.is_delete():
        raise ConfigError(f"`{word}`: ~ leaves a key out and takes no list")
    if getattr(value, "shuffle", False):
        raise ConfigError(f"`{word}`: trials keep their numbers, so lists keep their order; leave out shuffle")
    if isinstance(value, IntervalSweep):
        ends = value.start, value.end
        return _range(name, ends, "log" in value.tags, None, _whole(ends), word, value.tags)
    if isinstance(value, RangeSweep):
        return _from_range(name, value, word)
    if isinstance(value, Glob):
        there = list(offered.get(override.key_or_group, ()))
        options = value.filter(there)
        if not options:
            fits = f"no option of {name} fits; options: {', '.join(there)}" if there else f"{name} is no group"
            raise ConfigError(f"`{word}`: {fits}")
        return _choices(name, tuple(options), tuple(options), word)
    if not isinstance(value, ChoiceSweep):
        raise ConfigError(f"`{word}`: this is no list that a sweep takes")
    values = tuple(Override._convert_value(item) for item in value.list)
    texts = tuple(Override._get_value_element_as_str(item) for item in value.list)
    return _choices(name, values, texts, word)


def _from_range(name: str, sweep: RangeSweep, word: str) -> Axis:
    """Returns the axis of ``range(START,STOP,STEP)``, whose STOP is left out."""
    start, stop, step = sweep.start, sweep.stop, sweep.step
    assert start is not None
    assert stop is not None
    if not step:
        raise ConfigError(f"`{word}`: the step of a range can't be 0")
    whole = _whole((start, stop, step))
    numbers = list(steps(start, stop, step, is_integer=whole, includes_end=False))
    if step < 0 or len(numbers) < 2 or "log" in sweep.tags:
        return _choices(name, tuple(numbers), tuple(map(repr, numbers)), word)
    return Range(name, numbers[0], numbers[-1], step=step, is_integer=whole)


def _from_mapping(name: str, entry: Mapping[str, Any], where: str) -> Range:
    unknown = [str(key) for key in entry if key not in _RANGE_KEYS]
    if unknown:
        hint = did_you_mean(unknown[0], _RANGE_KEYS) or ";"
        if isinstance(entry[unknown[0]], list | Mapping):
            hint = f"; a key of trainings is written whole, `{name}.{unknown[0]}:`;"
        raise ConfigError(f"{where}.{unknown[0]}: there is no such key{hint} keys: {', '.join(_RANGE_KEYS)}")
    ends = entry.get("low"), entry.get("high")
    numbers = [*ends, *([entry["step"]] if entry.get("step") is not None else [])]
    if any(not isinstance(number, int | float) or isinstance(number, bool) for number in numbers):
        raise ConfigError(f"{where}: low and high have to be numbers, got {dict(entry)}")
    kind = entry.get("type", "int" if _whole(numbers) else "float")
    if kind not in ("int", "float") or (kind == "int" and not _whole(numbers)):
        raise ConfigError(f"{where}.type={kind}: expected int (with whole ends) or float")
    return _range(name, ends, bool(entry.get("log")), entry.get("step"), kind == "int", where, ())


def _range(
    name: str, ends: tuple[Any, Any], log: bool, step: float | None, whole: bool, where: str, tags: Any
) -> Range:
    low, high = ends
    unknown = sorted(set(tags) - {"log"})
    if unknown:
        raise ConfigError(f"`{where}`: the tag of an interval is log, got {', '.join(unknown)}")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"`{where}`: both ends are finite, the first below the second; got {low!r} and {high!r}")
    if log and low <= 0:
        raise ConfigError(f"`{where}`: on a logarithmic axis both ends are above 0, got {low!r}")
    if step is not None and (log or step <= 0):
        raise ConfigError(f"`{where}`: step={step!r} is not allowed; allowed: a number > 0, without log")
    if step is not None:
        *_, high = steps(low, high, step, whole)
    return Range(name, low if whole else float(low), high if whole else float(high), log, step, whole)


def _choices(name: str, values: tuple[Any, ...], texts: tuple[str, ...], where: str) -> Choices:
    if not values:
        raise ConfigError(f"`{where}`: the list is empty; give one or more values")
    if odd := [v for v in values if isinstance(v, float) and not math.isfinite(v)]:
        raise ConfigError(f"`{where}`: trials take finite numbers, got {odd[0]}")
    if len(set(texts)) < len(texts):
        twice = next(text for text in texts if texts.count(text) > 1)
        raise ConfigError(f"`{where}`: {twice} is there twice; every value is tried once")
    return Choices(name, values, texts)


def _whole(numbers: Sequence[Any]) -> bool:
    return all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)


def _quoted(value: Any) -> Any:
    """Returns a value of a YAML file with its texts in quotes where Hydra's grammar would read them otherwise."""
    if isinstance(value, list):
        return [_quoted(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _quoted(item) for key, item in value.items()}
    if isinstance(value, str):
        override = read(f"key={value}")
        is_plain = override is not None and not override.is_sweep_override() and override.value() == value
        return value if is_plain else QuotedString(value, Quote.single)
    return value
