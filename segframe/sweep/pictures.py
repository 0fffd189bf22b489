"""The pictures of a sweep, in its folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from segframe.runfolder import write_json
from segframe.sweep.importance import Importance, importance, spans
from segframe.sweep.settings import Sweep
from segframe.sweep.trial import Trial

_FOLDER = "pictures"
_DRAWN = "drawn.json"
_ODD = re.compile(r"[^\w.+-]")  # what file names do without


def draw(sweep: Sweep, trials: Sequence[Trial]) -> tuple[Importance, list[Path]]:
    """Draws all pictures that there is something to draw for; returns the importance of parameters, and the files.

    What was drawn from the same trials before stays as it is.

    Args:
        sweep: The sweep.
        trials: Those that were given out, by number.
    """
    folder = sweep.folder / _FOLDER
    drawn_from = _hash(sweep, trials)
    known = _known(folder / _DRAWN, drawn_from)
    if known is not None:
        return known
    settings, ranges = sweep.settings, spans(sweep.folder)
    found = importance(trials, ranges, settings.is_higher_better)
    for old in folder.rglob("*.png"):
        old.unlink()
    files = _draw(sweep, trials, found, {key: span.log for key, span in ranges.items()}) if trials else []
    folder.mkdir(exist_ok=True)
    content = {"from": drawn_from, "shares": dict(found.shares), "caption": found.caption}
    write_json(folder / _DRAWN, content | {"files": [str(file.relative_to(folder)) for file in files]})
    return found, files


def _draw(sweep: Sweep, trials: Sequence[Trial], found: Importance, logs: dict[str, bool]) -> list[Path]:
    from segframe.figures.sweep_history import sweep_history
    from segframe.figures.sweep_importance import sweep_importance
    from segframe.figures.sweep_parallel import sweep_parallel
    from segframe.figures.sweep_scale import Point, scales, valued
    from segframe.figures.sweep_slice import sweep_slice

    settings, folder = sweep.settings, sweep.folder / _FOLDER
    points = [Point(trial.number, trial.state, trial.value, trial.params) for trial in trials]
    label = f"{settings.metric} ({settings.value})"
    files = [folder / "history.png"]
    sweep_history(points, label, settings.is_higher_better, files[0])
    if found.shares:
        files.append(folder / "importance.png")
        sweep_importance(found.shares, f"{settings.metric}, {found.caption}", files[-1])
    varying = scales(points, logs)
    if varying and len(valued(points)) > 1:
        files.append(folder / "parallel_coordinates.png")
        sweep_parallel(points, label, settings.is_higher_better, logs, files[-1])
    for scale in varying:
        files.append(folder / "parameters" / (_ODD.sub("_", scale.name) + ".png"))
        sweep_slice(points, scale.name, label, logs, files[-1])
    return files


def _hash(sweep: Sweep, trials: Sequence[Trial]) -> str:
    """Returns what changes with anything that pictures show."""
    shown = [[trial.number, trial.state, trial.value, trial.params] for trial in trials]
    settings = sweep.settings
    text = json.dumps([shown, settings.metric, settings.value, settings.direction], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _known(file: Path, drawn_from: str) -> tuple[Importance, list[Path]] | None:
    """Returns what was drawn from the same trials, if all of it is still there."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        files = [file.parent / name for name in content["files"]]
        if content["from"] != drawn_from or not all(path.exists() for path in files):
            return None
        return Importance(content["shares"], content["caption"]), files
    except (OSError, ValueError, KeyError, TypeError):
        return None
