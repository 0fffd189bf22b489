"""The result of a comparison of strategies, as tables for a terminal."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

WIDTH = 120
_MIB = 2**20
_CASE = ("model", "strategy")
_TIME = ("ranks", "ms", "img/s", "speed\nup", "effi-\nciency")
_MEMORY = ("para-\nmeters", "gradi-\nents", "optim.\nstate", "activa-\ntions", "gath-\nered")
_TRAFFIC = ("MiB\nsent", "x mini-\nmum", "under\nway", "waited", "mov-\ning")
_NUMBERS = (*_TIME, *_MEMORY, *_TRAFFIC)
_NOTE = (
    "strong scaling: the global batch of {batch} stays the same; one core and one thread a rank, {cores} cores here. "
    "MiB of the rank that holds most. Sent: per rank and step. Minimum: of what the strategy must send. Under way: a "
    "collective was, overlap included. Waited: the training thread was asleep. Moving: threads that move bytes."
)


def show(result: dict[str, Any]) -> None:
    """Prints a result; no line is wider than 120 columns.

    Args:
        result: What ``strategies.json`` holds.
    """
    console = Console(width=min(WIDTH, Console().width) if Console().is_terminal else WIDTH)
    console.print(_table(result))
    console.print(note(result), style="dim", highlight=False)
    for row in result["cases"]:
        if "error" in row:
            console.print(f"failed: {row['model']} {row['strategy']} x {row['ranks']}: {row['error']}", markup=False)
    for goal in result["goals"]:
        console.print(goal_line(goal), highlight=False)


def note(result: dict[str, Any]) -> str:
    """Returns what has to be said of the columns."""
    return _NOTE.format(**result)


def goal_line(goal: dict[str, Any]) -> str:
    """Returns a line that says what was aimed at and what it came to."""
    word = "met" if goal["met"] else "MISSED"
    return f"goal {word}: {goal['case']}: {goal['what']}: {goal['value']:.3f} (at most {goal['limit']:.3f})"


def headings() -> list[str]:
    """Returns what stands above the cells of a case, each on one line."""
    return [name.replace("-\n", "").replace("\n", " ") for name in (*_CASE, *_NUMBERS)]


def _table(result: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for name in _CASE:
        table.add_column(name, overflow="fold")
    for name in _NUMBERS:
        table.add_column(name, justify="right")
    model = None
    for row in result["cases"]:
        if model not in (None, row["model"]):
            table.add_section()
        model = row["model"]
        table.add_row(*cells(row))
    return table


def cells(row: dict[str, Any]) -> list[str]:
    """Returns the cells of a case, as they stand in the table."""
    head = [row["model"], row["strategy"], str(row["ranks"])]
    if "error" in row:
        return [*head, "failed", *[""] * 13]
    memory, traffic = row["memory"], row["traffic"]
    keys = ("parameters", "gradients", "optimizer_state", "activations", "gathered")
    return [
        *head,
        _number(row["step_ms"], ".0f"),
        _number(row["images_per_s"], ".1f"),
        _number(row["speed_up"], ".2f"),
        "shared\ncores" if row["shares_cores"] else _number(row["efficiency"], ".0%"),
        *(f"{memory[key] / _MIB:.1f}" for key in keys),
        "-" if row["ranks"] == 1 else _number(traffic["sent"], ".1f", _MIB),
        _number(traffic["ratio"], ".3f"),
        "-" if row["ranks"] == 1 else _number(row["in_flight_share"], ".0%"),
        _number(row["waited_share"], ".0%"),
        "-" if row["ranks"] == 1 else _number(row["moving_share"], ".0%"),
    ]


def _number(value: float | None, form: str, unit: float = 1) -> str:
    return "-" if value is None else format(value / unit, form)
