"""The certificate as a table, a verdict and a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from segframe.certificate.compare import Row
    from segframe.certificate.guards import Guard


@dataclass
class Report:
    """What a certificate found.

    Attributes:
        title: What was compared with what.
        words: The words of the strategy's run.
        num_ranks: Its processes.
        rows: Every quantity in every precision.
        guards: What had to happen, in every precision.
        notes: What was not compared, and why.
        seconds: How long each run took.
    """

    title: str
    words: list[str]
    num_ranks: int
    rows: list[Row] = field(default_factory=list)
    guards: list[Guard] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def failed_rows(self) -> list[Row]:
        """The quantities that differ."""
        return [row for row in self.rows if row.passed is False]

    @property
    def failed_guards(self) -> list[Guard]:
        """What should have happened and did not."""
        return [guard for guard in self.guards if guard.passed is False]

    @property
    def passed(self) -> bool:
        """Whether everything was compared and nothing differs."""
        compared = any(row.passed for row in self.rows) and any(guard.passed for guard in self.guards)
        return compared and not self.failed_rows and not self.failed_guards

    def as_json(self) -> dict[str, Any]:
        """Returns everything as plain values; null stands for a number that is not finite."""
        from segframe.runfolder import git_state, versions

        content = asdict(self)
        for row in content["rows"]:
            row["difference"] = row["difference"] if math.isfinite(row["difference"]) else None
        return {"passed": self.passed, **content, "versions": versions(), "git": git_state()}

    def show(self) -> None:
        """Prints the table, what was seen, and the verdict on standard output."""
        from rich.console import Console

        console = Console(highlight=False)
        print(self.title)
        console.print(_numbers(self.rows))
        console.print(_seen(self.guards))
        for note in self.notes:
            print(f"note: {note}")
        print(self.verdict())

    def verdict(self) -> str:
        """Returns what came out, and where to look if it is not right."""
        if self.passed:
            columns = ", ".join(dict.fromkeys(row.precision for row in self.rows))
            return f"PASS: the strategy computes what one process computes ({columns})."
        lines = []
        for row in self.failed_rows:
            lines.append(
                f"  {row.name} ({row.precision}): {_number(row)} where {_tolerance(row)} is allowed; {row.note}"
            )
        for guard in self.failed_guards:
            lines.append(f"  not so ({guard.precision}): {guard.name}; {guard.found}")
        head = "FAIL: the strategy does not compute what one process computes."
        if not self.failed_rows:
            head = "FAIL: what was compared proves nothing."
        return "\n".join([head, *lines])


def _numbers(rows: Sequence[Row]) -> Table:
    from rich.table import Table

    precisions = list(dict.fromkeys(row.precision for row in rows))
    table = Table(box=_box(), padding=(0, 1, 0, 0))
    table.add_column("largest difference", no_wrap=True)
    for precision in precisions:
        for text in (precision, "tolerance", ""):
            table.add_column(text, justify="right")
    for name in dict.fromkeys(row.name for row in rows):
        cells = [name]
        for precision in precisions:
            row = next(row for row in rows if row.name == name and row.precision == precision)
            cells += [_number(row), _tolerance(row), _word(row.passed)]
        table.add_row(*cells)
    return table


def _seen(guards: Sequence[Guard]) -> Table:
    from rich.table import Table

    table = Table(box=_box(), padding=(0, 1, 0, 0))
    table.add_column("what had to happen", no_wrap=True)
    table.add_column("seen")
    table.add_column()
    for name in dict.fromkeys(guard.name for guard in guards):
        same = [guard for guard in guards if guard.name == name]
        # One line for all precisions; the first in which it did not happen speaks for them.
        guard = next((g for g in same if g.passed is False), same[0])
        table.add_row(name, guard.found, _word(guard.passed))
    return table


def _box() -> Any:
    from rich import box

    return box.SIMPLE_HEAD


def _number(row: Row) -> str:
    if math.isnan(row.difference):
        return "none"
    return f"{row.difference:.0f} {row.unit}" if row.unit else f"{row.difference:.1e}"


def _tolerance(row: Row) -> str:
    if row.passed is None:
        return ""
    return f"{row.tolerance:.0f} {row.unit}" if row.unit else f"{row.tolerance:.1e}"


def _word(passed: bool | None) -> str:
    return {True: "pass", False: "FAIL", None: "-"}[passed]
