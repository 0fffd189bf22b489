"""A sweep's numbers and pictures in Weights & Biases, as one run beside those of its trials."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from segframe.loggers import wandb_account
from segframe.sweep.results import RESULTS_FILE, rows
from segframe.sweep.settings import Sweep
from segframe.sweep.trial import Trial
from segframe.wording import shown

_SENT_FILE = "wandb_sent"
_LOGGER = "segframe.loggers.wandb.Wandb"
_INIT_TIMEOUT_S = 60


def send(sweep: Sweep, trials: Sequence[Trial], pictures: Sequence[Path]) -> None:
    """Logs the table, the best trial and the pictures where a trial was logged to wandb; unchanged ones not again.

    The run is called ``sweep`` and belongs to the trials' group. ``SWEEP/wandb_id`` keeps its id, so that a repeated
    command goes on in it. What wandb can't do is told on stderr: the sweep has its results already.

    Args:
        sweep: The sweep; its results.json is there.
        trials: Those that were given out, by number.
        pictures: Files.
    """
    logger = next((found for trial in trials if (found := _logger(trial)) is not None), None)
    if logger is None or logger["mode"] == "disabled":
        return
    results = (sweep.folder / RESULTS_FILE).read_text(encoding="utf-8")
    sent = sweep.folder / _SENT_FILE
    if sent.exists() and sent.read_text(encoding="utf-8") == results:
        return
    if find_spec("wandb") is None:
        print("wandb: the sweep's summary was not logged: pip install 'segframe[wandb]'", file=sys.stderr)
        return
    import wandb

    try:
        _log(sweep, logger, rows(sweep, trials), json.loads(results), pictures)
    except (wandb.Error, OSError) as error:
        print(f"wandb: the sweep's summary was not logged ({' '.join(str(error).split())})", file=sys.stderr)
        return
    sent.write_text(results, encoding="utf-8")


def _log(
    sweep: Sweep,
    logger: dict[str, Any],
    table: Sequence[dict[str, Any]],
    results: dict[str, Any],
    pictures: Sequence[Path],
) -> None:
    import wandb

    folder = sweep.folder.absolute()
    wandb_account.keep_files_in(folder)
    mode: Any = logger["mode"] or wandb_account.default_mode(folder, tells=True)
    if mode == "online":
        print("wandb: sending the sweep's table and pictures", file=sys.stderr, flush=True)
    settings = wandb.Settings(silent=True, console="off", disable_code=True, init_timeout=_INIT_TIMEOUT_S)
    with wandb.init(
        project=logger.get("project"),
        entity=logger.get("entity"),
        group=logger.get("group") or folder.name,
        job_type="sweep",
        name=f"{folder.name} sweep",
        id=wandb_account.kept_id(folder),
        resume="allow",
        dir=folder,
        mode=mode,
        settings=settings,
        config={key: results[key] for key in ("name", "metric", "direction", "value", "command")},
    ) as run:
        columns: list[str | int] = [*table[0]]
        data: list[Iterable[Any]] = [[_cell(value) for value in row.values()] for row in table]
        panels: dict[str, Any] = {"trials": wandb.Table(columns=columns, data=data, allow_mixed_types=True)}
        for picture in pictures:
            panels[picture.relative_to(sweep.folder).with_suffix("").as_posix()] = wandb.Image(str(picture))
        run.log(panels)
        run.summary.update({"counts": results["counts"], "best": results["best"], "over_seeds": results["over_seeds"]})
        run.summary.update({"importance": results.get("importance") or {}})


def _logger(trial: Trial) -> dict[str, Any] | None:
    """Returns the section ``logger`` of a trial that was logged to wandb."""
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        found = yaml.load((trial.folder / "config.yaml").read_text(encoding="utf-8"), Loader=loader)["logger"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) and found.get("_target_") == _LOGGER else None


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else shown(value)
