"""What each rank of a certificate does: assembles the run as ``train`` does, with a recorder, and trains some steps."""

from __future__ import annotations

import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segframe.certificate.progress import advance
from segframe.ranks import place
from segframe.runfolder import write_json

ERROR_FILE = "error-{rank}.json"
"""Why a rank ended: ``told`` in a sentence, ``code`` to end with, ``is_another_ranks`` where another was first,
``is_refusal`` where it would not begin to train."""


@dataclass(frozen=True)
class Task:
    """One run for each precision, in the same processes.

    Attributes:
        words: What the run is composed from.
        folder: Where each precision's record goes, in a folder of its name.
        precisions: ``trainer.precision`` of each run, by the name of its folder.
        tolerances: By the same names.
        num_steps: Optimizer steps of each run.
        prepare: Called in every rank before anything is assembled.
    """

    words: Sequence[str]
    folder: Path
    precisions: dict[str, str]
    tolerances: dict[str, float]
    num_steps: int
    prepare: Callable[[], object] | None = field(default=None)


def run(task: Task) -> int:
    """Runs in a rank: trains and records in every precision; returns the exit code.

    Args:
        task: What to do.
    """
    begun: list[str] = []
    try:
        if task.prepare is not None:
            task.prepare()
        for name in task.precisions:
            _record(task, name, begun)
        return 0
    except BaseException as error:
        return _ended_by(error, task, may_refuse=not begun)


def _record(task: Task, name: str, begun: list[str]) -> None:
    from segframe import build
    from segframe.certificate.facts import Facts
    from segframe.certificate.record import Recorder
    from segframe.config.compose import compose

    folder = task.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    if place().rank == 0:
        advance(folder)
    run_dir = folder / "run"
    words = [*task.words, f"trainer.precision={task.precisions[name]}", f"run.dir={run_dir}"]
    run = build.assemble(compose(words), run_dir, None, words=words)
    settings = run.values["trainer"]
    clip = settings["gradient_clip_val"]
    facts = Facts(
        num_micro_batches=run.trainer.num_micro_batches,
        clip=(float(clip), settings["gradient_clip_algorithm"]) if clip else None,
        num_val=run.data.num_val,
        labelled_pixels=_labelled_pixels(run.data),
    )
    run.callbacks.append(Recorder(folder, task.num_steps, task.tolerances[name], facts))
    try:
        run.trainer.fit(run.task, datamodule=run.data, weights_only=True)
    finally:
        run.data.close()
        if run.task.has_trained:
            begun.append(name)
    if place().rank == 0:
        shutil.rmtree(run_dir, ignore_errors=True)


def _labelled_pixels(data: Any) -> int:
    """Counts the pixels of the validation set that count, from its masks alone."""
    from segframe.contracts import IGNORE_INDEX

    return sum(int((data.val[index][1] != IGNORE_INDEX).sum()) for index in range(data.num_val))


def _ended_by(error: BaseException, task: Task, may_refuse: bool) -> int:
    """Writes why this rank ended; its log has the traceback."""
    from segframe import faults

    traceback.print_exc(file=sys.stderr)
    error = faults.own_error(error)
    told = faults.explain(error, batch_size=0, parts=0, crop="")
    code = faults.exit_code(error)
    content = {
        "told": told or "".join(traceback.format_exception(error)),
        "code": code,
        "is_another_ranks": faults.is_another_ranks(error),
        "is_refusal": may_refuse and isinstance(error, ValueError),
    }
    task.folder.mkdir(parents=True, exist_ok=True)
    write_json(task.folder / ERROR_FILE.format(rank=place().rank), content)
    return code
