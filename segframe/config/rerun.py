"""The words that an earlier run was started with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from segframe.config.options import ConfigError, nearest
from segframe.config.overrides import last_wins, name_of

OVERRIDES_FILE = "overrides.json"
"""The file of a run folder that holds the words which the run was started with."""


_PLACEMENT = tuple(f"strategy.{key}" for key in ("data", "fsdp", "stages", "spatial", "schedule", "cuts"))
"""Who holds what, under one strategy: of no meaning to another one, and of no influence on the numbers."""


def run_overrides(run: str | Path, overrides: Sequence[str] = ()) -> list[str]:
    """Returns the words that a run was started with, then ``overrides``; the last of each key counts.

    Where these name another strategy, how the run's own was laid out over devices is left out.

    Raises:
        ConfigError: If ``run`` is no run folder.
    """
    file = Path(run) / OVERRIDES_FILE
    if not file.is_file():
        raise ConfigError(_no_run(Path(run)))
    try:
        words = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{file} is no valid JSON ({error}); give the run's settings again") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ConfigError(f'{file} must hold a list of words such as "model=segnet", got {words!r:.80}')
    chosen = [word for word in overrides if name_of(word) == "strategy"]
    if chosen and chosen[-1] not in words:
        words = [word for word in words if name_of(word) not in _PLACEMENT]
    return last_wins([word for word in (*words, *overrides) if name_of(word) not in ("resume", "run.dir")])


def _no_run(run: Path) -> str:
    """Returns the message about a path that is no run folder."""
    found = f"{run} is no folder" if not run.is_dir() else f"{run} holds no {OVERRIDES_FILE}, so it is no run folder"
    inside = next((parent for parent in run.parents if (parent / OVERRIDES_FILE).is_file()), None)
    if inside:
        return f"{run} lies inside a run folder; did you mean {inside}?"
    ancestor = run if run.is_dir() else next((p for p in run.parents if p.is_dir()), Path())
    files = (file for depth in ("*", "*/*", "*/*/*") for file in ancestor.glob(f"{depth}/{OVERRIDES_FILE}"))
    runs = [str(file.parent) for file in files]
    if not runs:
        return f"{found}, and there is no run folder below {ancestor.absolute()} either"
    return f"{found}; did you mean {nearest(str(run), runs, cutoff=0.0)}?"
