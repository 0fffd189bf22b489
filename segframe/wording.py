"""Values and durations as people read them."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

_PLAIN = re.compile(r"[\w./@+:-]+", re.ASCII)  # neither the shell nor Hydra's grammar sees anything in these
_BEFORE_QUOTE = re.compile(r"(\\+)(?='|$)")
_OF_SHELLS = re.compile(r'["$`\\!]')  # what double quotes do not quote


def shown(value: Any) -> str:
    """Returns a value as it is written on a command line, a number with three digits.

    Example:
        >>> shown(0.00012345), shown(1e-05), shown(True), shown([48, 48]), shown(None)
        ('0.000123', '1e-5', 'true', '[48,48]', 'null')
    """
    if isinstance(value, float):
        return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")
    if value is None or isinstance(value, bool | list | tuple | dict):
        return json.dumps(value, separators=(",", ":"), default=str).replace('"', "")
    return str(value)


def shown_score(value: float | None) -> str:
    """Returns a value of a metric with the digits that tell trials apart.

    Example:
        >>> shown_score(0.43219), shown_score(1234567.0), shown_score(None)
        ('0.4322', '1.23e6', '-')
    """
    if value is None:
        return "-"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1000 else shown(float(value))


def quoted(text: str) -> str:
    """Returns text as Hydra's grammar reads it back, whatever is in it."""
    # A backslash counts as one everywhere but before a quote, the closing one too.
    return "'" + _BEFORE_QUOTE.sub(r"\1\1", text).replace("'", "\\'") + "'"


def pasted(key: str, value: object) -> str:
    """Returns the word KEY=VALUE as it can be pasted into a shell.

    Args:
        key: Such as ``resume``.
        value: A folder, a file, or other text without a list.

    Example:
        >>> print(pasted("resume", "outputs/pspnet-1"))
        resume=outputs/pspnet-1
        >>> print(pasted("resume", "my runs/a"))
        "resume='my runs/a'"
    """
    text = str(value)
    if _PLAIN.fullmatch(text):
        return f"{key}={text}"
    word = f"{key}={quoted(text)}"
    return shlex.quote(word) if _OF_SHELLS.search(word) else f'"{word}"'


def duration(seconds: float | None) -> str:
    """Returns a time in its two largest units.

    Example:
        >>> [duration(s) for s in (0.4, 59.6, 61, 3599.9, 7300, 190000, None)]
        ['0 s', '1 min', '1 min 01 s', '1 h 00 min', '2 h 02 min', '2 d 05 h', '?']
    """
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(whole / 60), 60)
    if hours < 24:
        return f"{hours} h {minutes:02} min"
    days, hours = divmod(round(whole / 3600), 24)
    return f"{days} d {hours:02} h"


def clock(seconds: float | None) -> str:
    """Returns a time for a narrow column.

    Example:
        >>> [clock(s) for s in (4, 61.4, 3725, None)]
        ['0:04', '1:01', '1:02:05', '?']
    """
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
