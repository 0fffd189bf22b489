"""What each rank of a measured case does: takes a core, assembles a run, and trains the steps that are measured."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from segframe.ranks import place


def measure(words: Sequence[str], timed: int, folder: str) -> int:
    """Trains as one rank of a case and writes ``rank-N.json``; returns the exit code.

    Args:
        words: Those of a training run.
        timed: Steps whose time and traffic are measured; 0 to count memory and traffic alone.
        folder: Of the case; what the run writes goes there too.
    """
    pin()
    from pytorch_lightning.callbacks import Checkpoint

    from segframe.build import assemble
    from segframe.config.compose import compose
    from segframe.cost.measurement import Measurement
    from segframe.parallel.twin import twin_of

    try:
        run = assemble(compose(words), Path(folder), None)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    # First, so that the other callbacks' work within a step counts as the step's.
    measurement = Measurement(timed, Path(folder), twin_of(run.task.net))
    run.callbacks[:] = [measurement, *(c for c in run.callbacks if not isinstance(c, Checkpoint))]
    try:
        run.trainer.fit(run.task, datamodule=run.data)
    finally:
        run.data.close()
    return 0


def pin() -> None:
    """Binds this process to one core, that of its rank; ranks beyond the cores share them. Nothing where it can't."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[place().local_rank % len(cores)]})
