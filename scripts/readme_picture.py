"""Draws the picture of the README: what a run's best checkpoint makes of three validation images.

Usage: python scripts/readme_picture.py RUN OUT.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from segframe import build, figures, report
from segframe.checkpoint import load_weights
from segframe.checkpoint_io import read_checkpoint
from segframe.config.compose import compose_resume
from segframe.contracts import IGNORE_INDEX

INDICES = (2, 9, 21)


def main() -> None:
    """Draws the picture."""
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    run = build.assemble(compose_resume(folder, [], for_training=False), folder, None, training=False)
    load_weights(run.task.net, read_checkpoint(folder / "checkpoints" / "best.ckpt"))
    run.trainer.validate(run.task, datamodule=run.data, verbose=False)
    samples = report.predicted_samples(run, INDICES, worst=())
    out.parent.mkdir(parents=True, exist_ok=True)
    figures.predictions(samples, run.task.classes, run.task.palette, out, IGNORE_INDEX)


if __name__ == "__main__":
    main()
