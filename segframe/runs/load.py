"""The table of runs: one row per run folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segframe.runs.configuration import is_told_by_option
from segframe.runs.folders import run_folders
from segframe.runs.record import Record, read_record

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "folder",
    "state",
    "model",
    "dataset",
    "strategy",
    "seed",
    "miou",
    "miou_final",
    "images_per_s",
    "started",
    "seconds",
    "config_hash",
    "sweep",
    "trial",
    "error",
)
"""The columns that every table has; the keys that differ stand behind them."""

_NUMBERS = ("miou", "miou_final", "images_per_s", "seconds")  # an empty table would have them as objects

UNSAID = ("run.", "resume", "logger.")
"""Keys that say where a run is, not what."""


def load(folder: str | Path) -> pd.DataFrame:
    """Returns one row per run folder at or below a folder, trials of sweeps too, by path.

    The columns are ``folder``, ``state`` (finished, running, interrupted, failed, pruned, stale, broken), ``model``,
    ``dataset``, ``strategy``, ``seed``, ``miou`` (of the best epoch), ``miou_final``, ``images_per_s``, ``started``
    (UTC), ``seconds``, ``config_hash``, ``sweep`` and ``trial`` where there is one, ``error``, and every other key of
    the configuration that differs between the runs, dotted as on the command line; lists as text.

    Args:
        folder: Where to look, at any depth.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{root.absolute()} is no folder")
    return frame([read_record(run) for run in run_folders(root)])


def frame(records: Sequence[Record]) -> pd.DataFrame:
    """Returns the table of some runs.

    Args:
        records: What their folders say.
    """
    import pandas as pd

    rows = [row_of(record) for record in records]
    differing = differing_keys(records)
    for row, record in zip(rows, records, strict=True):
        row |= {key: _cell(record.config[key]) for key in differing if key in record.config}
    table = pd.DataFrame(rows, columns=[*COLUMNS, *differing])
    table["started"] = pd.to_datetime(table["started"].astype("float64"), unit="s", utc=True)
    kinds = dict.fromkeys(("seed", "trial"), "Int64") | dict.fromkeys(_NUMBERS, "float64")
    return table.astype(kinds)


def row_of(record: Record) -> dict[str, Any]:
    """Returns the values of ``COLUMNS`` of a run; ``started`` in seconds since 1970."""
    seed = record.config.get("seed")
    return {
        "folder": str(record.folder),
        "state": record.state,
        **{group: record.options.get(group) for group in ("model", "dataset", "strategy")},
        "seed": seed if isinstance(seed, int) and abs(seed) < 2**63 else None,
        "miou": record.metric("val/miou", "best"),
        "miou_final": record.metric("val/miou", "final"),
        "images_per_s": record.number("images_per_s"),
        "started": record.started,
        "seconds": record.number("wall_s"),
        "config_hash": record.results.get("config_hash"),
        "sweep": str(record.sweep) if record.sweep else None,
        "trial": record.trial,
        "error": record.error,
    }


def values_of(record: Record) -> dict[str, Any]:
    """Returns what conditions on a run may ask for: keys of its configuration, options by group, ``COLUMNS``."""
    return {**record.config, **record.options, **row_of(record)}


def differing_keys(records: Sequence[Record]) -> list[str]:
    """Returns the dotted keys whose values differ between runs, or that some lack, in the configuration's order."""
    known = [record.config for record in records if record.config]
    options = [record.options for record in records if record.config]
    keys = dict.fromkeys(key for config in known for key in config)
    wanted = [key for key in keys if key != "seed" and not key.startswith(UNSAID)]
    wanted = [key for key in wanted if not is_told_by_option(key, options)]
    differing = [key for key in wanted if len({str(config.get(key, math.nan)) for config in known}) > 1]
    # The seeds of parts are the run's, unless somebody has set them.
    return [key for key in differing if not _follows_seed(key, known)]


def _follows_seed(key: str, configs: Sequence[dict[str, Any]]) -> bool:
    return key.endswith(".seed") and all(config.get(key) == config.get("seed") for config in configs if key in config)


def _cell(value: Any) -> Any:
    return str(value) if isinstance(value, list) else value
