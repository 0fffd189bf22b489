"""The axes of a space: separate values, or numbers between two ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from segframe.config.options import ConfigError


@dataclass(frozen=True)
class Choices:
    """An axis of separate values.

    Attributes:
        name: What stands before ``=`` in its words, such as ``model`` or ``+optimizer.momentum``.
        values: The values, as JSON has them.
        texts: The same in Hydra's grammar.
    """

    name: str
    values: tuple[Any, ...]
    texts: tuple[str, ...]

    @property
    def key(self) -> str:
        """The key or group, without signs."""
        return self.name.lstrip("+")

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that a check of the space looks at: all."""
        return self.values

    def word(self, value: Any) -> str:
        """Returns the training word that sets one of the values."""
        found = (text for known, text in zip(self.values, self.texts, strict=True) if _same(known, value))
        return f"{self.name}={next(found)}"

    def all_values(self) -> tuple[Any, ...]:
        """Returns the values in order."""
        return self.values

    @property
    def labels(self) -> tuple[Any, ...]:
        """What stands for the values where lists and mappings can't: their texts for those."""
        pairs = zip(self.values, self.texts, strict=True)
        return tuple(v if v is None or isinstance(v, bool | int | float | str) else text for v, text in pairs)

    def label(self, value: Any) -> Any:
        """Returns what stands for a value."""
        return next(label for label, own in zip(self.labels, self.values, strict=True) if _same(own, value))

    def value(self, label: Any) -> Any:
        """Returns the value that a label stands for."""
        return next(own for label_, own in zip(self.labels, self.values, strict=True) if _same(label_, label))

    def as_json(self) -> Any:
        """Returns what tells this axis from another one."""
        return list(self.texts)


@dataclass(frozen=True)
class Range:
    """An axis of numbers between two ends, both included.

    Attributes:
        name: As of ``Choices``.
        low: The smallest.
        high: The largest.
        log: Whether equal factors count as equally far, not equal differences.
        step: The distance of neighbours; None for any number, or for neighbouring integers.
        is_integer: Whether its numbers are whole.
    """

    name: str
    low: float
    high: float
    log: bool = False
    step: float | None = None
    is_integer: bool = False

    @property
    def key(self) -> str:
        """The key, without signs."""
        return self.name.lstrip("+")

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that a check of the space looks at: the smallest and the largest."""
        return (self.low, self.high)

    def word(self, value: Any) -> str:
        """Returns the training word that sets a number of the range."""
        return f"{self.name}={value!r}"

    def all_values(self) -> tuple[Any, ...]:
        """Returns the numbers in order.

        Raises:
            ConfigError: If there is no step between them.
        """
        if self.step is None:
            raise ConfigError(
                f"{self.name} from {self.low!r} to {self.high!r}: a grid takes every value once and this is no list of "
                f"values; write {self.name}={self.low!r},{self.high!r} or range(START,STOP,STEP), or search it: "
                "segframe sweep sweep=optuna_random"
            )
        return tuple(steps(self.low, self.high, self.step, is_integer=self.is_integer))

    def as_json(self) -> Any:
        """Returns what tells this axis from another one."""
        kept = {"low": self.low, "high": self.high, "log": self.log, "step": self.step}
        return kept | {"type": "int" if self.is_integer else "float"}


Axis = Choices | Range


def steps(start: float, end: float, step: float, is_integer: bool, includes_end: bool = True) -> Iterator[int | float]:
    """Yields the numbers from start to end; counted in decimals, so that 0.1 three times is 0.3."""
    number, stop, width = (Decimal(str(value)) for value in (start, end, step))
    while (number - stop) * (1 if width > 0 else -1) < 0 or (includes_end and number == stop):
        yield int(number) if is_integer else float(number)
        number += width


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)
