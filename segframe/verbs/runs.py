"""``segframe runs``: lists runs and sweeps, newest first.

segframe runs [FOLDER] [CONDITIONS] [sort=COLUMN|-COLUMN] [columns=A,B,...] [out=FILE.csv]

FOLDER is looked through at any depth; the default is outputs. Trials of a sweep are one line unless FOLDER is the
sweep's. CONDITIONS are KEY=VALUE, KEY!=VALUE, and in quotes for the shell "KEY>NUMBER", ">=", "<", "<=", where KEY is a
column (state, model, dataset, strategy, seed, miou, miou_final, images_per_s, seconds, ...), a key of the configuration
or a group: model=pspnet seed=0,1 "miou>0.4" optimizer.lr=0.001 optimizer=adam. VALUE may hold * for anything.
sort=-miou puts the best first. columns=folder,miou,optimizer.lr chooses what is shown. out=FILE.csv writes all of it,
every run a row.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from segframe.config.options import ConfigError
from segframe.runs.configuration import CONSTRUCTOR, GROUPS
from segframe.runs.filters import Filter, check_keys, parse_filter
from segframe.runs.folders import is_run, is_sweep, nearest_folder, run_folders
from segframe.runs.listing import EXTRA, SHOWN, Line, lines_of, ordered, show
from segframe.runs.load import COLUMNS, differing_keys, frame
from segframe.runs.record import Record, read_record

_OWN = {"sort": "-started", "columns": "", "out": ""}
_DEFAULT = "outputs"
_MOST_KEYS = 4


def main(words: list[str]) -> int:
    """Prints the list; returns 0.

    Args:
        words: A folder, conditions and the verb's own keys.

    Raises:
        ConfigError: If the words are wrong or there is no run.
    """
    root, own, filters = _understood(words)
    folders = run_folders(root)
    if not folders:
        raise ConfigError(_nothing_in(root))
    records = [read_record(folder) for folder in folders]
    is_inside = is_sweep(root) or is_run(root) or is_sweep(root.parent)
    of_runs = lines_of(records, folds=False)
    known = list(dict.fromkeys([*COLUMNS, *EXTRA, *(key for line in of_runs for key in line.values)]))
    asked = [name.strip() for name in own["columns"].split(",") if name.strip()]
    columns = asked or _chosen(records, is_inside and len(records) > 1)
    check_keys([*columns, own["sort"].removeprefix("-"), *(condition.key for condition in filters)], known)
    kept = [line.records[0] for line in of_runs if all(f.holds(line.values.get(f.key)) for f in filters)]
    if not kept:
        raise ConfigError(_none_left(of_runs, filters))
    if own["out"]:
        _write(kept, Path(own["out"]))
    _print(lines_of(kept, folds=not is_inside), columns, own["sort"], root)
    if own["out"]:
        print(f"wrote {len(kept)} run{'s' if len(kept) > 1 else ''} to {own['out']}")
    return 0


def _print(lines: Sequence[Line], columns: Sequence[str], sort: str, root: Path) -> None:
    from rich.console import Console

    show(Console(highlight=False), ordered(lines, sort), columns, root)
    wrong = sum(record.error is not None for line in lines for record in line.records)
    if wrong and "error" not in columns:
        print(f"{wrong} of them went wrong: columns=folder,state,error tells how")
    sys.stdout.flush()


def _understood(words: Sequence[str]) -> tuple[Path, dict[str, str], list[Filter]]:
    """Returns the folder, the verb's own keys and the conditions."""
    folders, own, filters = list[str](), dict(_OWN), list[Filter]()
    for word in (word for word in words if not word.startswith("--config-dir=")):
        found = (
            None if os.path.isdir(word) else parse_filter(word)
        )  # pathlib raises at words that are too long for a name
        if found is None:
            if word.startswith("-"):
                raise ConfigError(f"{word}: segframe runs takes no such flag; sort=-miou and the like are words")
            folders.append(word)
        elif found.key in own and found.sign == "=":
            own[found.key] = found.value
        else:
            filters.append(found)
    if len(folders) > 1:
        raise ConfigError(
            f"segframe runs looks through one folder, got {' and '.join(folders)}; give the one above them"
        )
    root = Path(folders[0] if folders else _DEFAULT)
    if not os.path.isdir(root):
        raise ConfigError(_no_folder(root, bool(folders)))
    if own["out"] and not own["out"].endswith(".csv"):
        raise ConfigError(f"out={own['out']}: the table is written as CSV; give out=FILE.csv")
    return root, own, filters


def _chosen(records: Sequence[Record], is_inside: bool) -> list[str]:
    """Returns the columns of a list for which none were asked: within a sweep what its trials differ in."""
    if not is_inside:
        return list(SHOWN)
    differing = differing_keys(records)
    seeds = {record.config.get("seed") for record in records if record.config}
    varying = {group for r in records for group in r.options if r.options[group] != records[0].options.get(group)}
    groups = [group for group in GROUPS if group in varying]
    keys = [key for key in differing if key.split(".")[0] not in groups]
    constructors = {f"{group}.{CONSTRUCTOR}": group for group in varying}
    keys = [constructors.get(key, key) for key in keys]
    return ["folder", "state", *groups, *(["seed"] if len(seeds) > 1 else []), *keys[:_MOST_KEYS], "miou", "age"]


def _write(records: Sequence[Record], path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        frame(records).to_csv(path, index=False, errors="backslashreplace")  # names of files may be no text
    except OSError as error:
        raise ConfigError(f"out={path} can't be written ({error.strerror}); give another file") from error


def _no_folder(root: Path, is_given: bool) -> str:
    where = f"there is no folder {root.absolute()}"
    if not is_given:
        return f"{where}, where runs are kept unless run.dir says otherwise; give a folder: segframe runs FOLDER"
    if guess := nearest_folder(root):
        return f"{where}; did you mean {guess}?"
    return f"{where}; {next(parent for parent in root.absolute().parents if os.path.isdir(parent))} exists"


def _nothing_in(root: Path) -> str:
    try:
        os.listdir(root)
    except OSError as error:
        return f"{root.absolute()} can't be looked through ({error.strerror}); give another folder"
    return f"there is no run folder at or below {root.absolute()}; train one (segframe train), or give another folder"


def _none_left(lines: Sequence[Line], filters: Sequence[Filter]) -> str:
    """Returns what there is instead of what was asked for."""
    asked = " ".join(map(str, filters))
    told = []
    for key in dict.fromkeys(condition.key for condition in filters):
        values = sorted({str(line.values.get(key)) for line in lines})
        more = ", ..." if len(values) > 6 else ""
        told.append(f"{key}: {', '.join(values[:6])}{more}")
    return f"none of {len(lines)} runs has {asked}; there are {'; '.join(told)}"
