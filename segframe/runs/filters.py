"""Which of many runs are meant: KEY=VALUE, KEY>NUMBER and their like."""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from segframe.config.options import ConfigError, did_you_mean

_PATTERN = re.compile(r"^([A-Za-z_][\w./-]*?)\s*(>=|<=|!=|=|>|<)\s*(.*)$", re.DOTALL)
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True)
class Filter:
    """One condition.

    Attributes:
        key: A column of the table of runs or a key of the configuration.
        sign: ``=``, ``!=``, ``>=``, ``<=``, ``>`` or ``<``.
        value: What stands behind it; for ``=`` and ``!=`` also several with commas, and ``*`` for anything.
    """

    key: str
    sign: str
    value: str

    def holds(self, value: Any) -> bool:
        """Whether a run's value fulfils the condition; None and NaN fulfil only ``!=`` and ``=null``."""
        if self.sign in _ORDERS:
            number = _as_number(value)
            return number is not None and _ORDERS[self.sign](number, float(self.value))
        is_one = any(_equal(value, wanted.strip()) for wanted in (self.value, *self.value.split(",")))
        return is_one == (self.sign == "=")

    def __str__(self) -> str:
        return f"{self.key}{self.sign}{self.value}"


def parse_filter(word: str) -> Filter | None:
    """Returns the condition that a word states, or None where it states none.

    Args:
        word: Such as ``model=pspnet``, ``seed=0,1`` or ``miou>0.4``.

    Raises:
        ConfigError: If something is to be compared with what is no number.
    """
    match = _PATTERN.match(word)
    if match is None:
        return None
    found = Filter(*match.groups())
    if found.sign in _ORDERS and _as_number(found.value) is None:
        raise ConfigError(
            f"{word}: `{found.value}` is no number; write {found.key}{found.sign}0.4, or {found.key}=TEXT"
        )
    return found


def check_keys(keys: Iterable[str], known: Sequence[str], what: str = "column or key") -> None:
    """Checks that there are such columns.

    Args:
        keys: Those that are asked for.
        known: Those that there are.
        what: What they are called.

    Raises:
        ConfigError: If one is unknown; names the nearest.
    """
    for key in keys:
        if key not in known:
            hint = did_you_mean(key, known)
            shown = [name for name in known if "." not in name]
            rest = ", and the keys of the configuration" if len(shown) < len(known) else ""
            raise ConfigError(f"{key}: there is no such {what}{hint or ';'} there are: {', '.join(shown)}{rest}")


def _equal(value: Any, wanted: str) -> bool:
    if value is None or value != value:
        return wanted in ("null", "")
    one, other = _as_number(value), _as_number(wanted)
    if one is not None and other is not None:
        return one == other
    if isinstance(value, bool):
        return wanted.lower() == str(value).lower()
    text = str(value)
    return fnmatch.fnmatchcase(text.replace(" ", ""), wanted.replace("[", "[[]").replace(" ", ""))


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number == number else None
