"""What a run does when torchrun or SLURM starts its command again: it goes on from the run folder's checkpoint."""

from __future__ import annotations

import json
import os
import socket
import sys
import zipfile
from pathlib import Path
from typing import Any

from segframe import rendezvous
from segframe.config.options import ConfigError
from segframe.ranks import SUPERVISED_VARIABLE, place
from segframe.rendezvous import AnotherRankError as AnotherRankError

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


def folder_to_go_on_with(values: dict[str, Any], run_dir: str, source: str) -> str | None:
    """Returns the run folder that this start goes on with as ``resume=`` would; None where it begins as asked.

    A start is a restart if any rank's launcher counts it as one, or if the folder was written under the same
    name of a torchrun job: a node that joins later counts from 0.

    Args:
        values: The resolved configuration.
        run_dir: The folder that the user has given as run.dir, empty where not.
        source: What the user has given as resume, empty where not.
    """
    if not _is_launched():
        return None
    rendezvous.join(start_timeout_s(values))
    folder = str(Path(source).parent.parent) if source.endswith(".ckpt") else source or run_dir
    counted = any(int(os.environ.get(name, "0")) for name in ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"))
    restarted = rendezvous.anywhere("restarted", counted or bool(folder and _is_same_job(Path(folder))))
    if not folder:
        _warn(restarted)
        return None
    if not restarted or not _all_see_a_checkpoint(Path(folder)):
        return None
    if place().rank == 0:
        print(f"started again; goes on with {folder}", file=sys.stderr, flush=True)
    return folder


def _all_see_a_checkpoint(folder: Path) -> bool:
    """Whether there is a checkpoint; one that only some ranks see is an error, whichever may be rank 0 now."""
    is_seen = (folder / "checkpoints" / LAST).exists()
    if not rendezvous.anywhere("a checkpoint is seen", is_seen):
        return False
    if rendezvous.anywhere("a checkpoint is not seen", not is_seen):
        raise ConfigError(
            f"run.dir={folder} holds a checkpoint on {'this machine' if is_seen else 'another machine'} and none on "
            f"{'another' if is_seen else 'this one'} (seen from rank {place().rank} on {socket.gethostname()}): it has "
            "to be on a file system that all machines see. Copy it to all of them, or give another run.dir."
        )
    return True


def start_timeout_s(values: dict[str, Any]) -> float:
    """Returns how long ranks wait for each other at the start, seconds."""
    return float(values["strategy"].get("start_timeout_s", 120.0))


def job_name() -> str | None:
    """Returns the name of the torchrun or SLURM job that this process belongs to; None for one without a name."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    if name != "none":
        return name
    return f"slurm {os.environ['SLURM_JOB_ID']}" if "SLURM_RESTART_COUNT" in os.environ else None


def last_whole(folder: Path) -> Path | None:
    """Returns a run folder's last checkpoint; for torchrun or SLURM the one before, where a crash has torn it.

    A user who goes on by hand is asked instead, when the torn one is read.

    Args:
        folder: The run folder.
    """
    last, previous = (folder / "checkpoints" / name for name in (LAST, PREVIOUS))
    if not last.exists():
        return None
    if not _is_launched():
        return last
    # The end of a checkpoint holds the list of what is in it.
    if zipfile.is_zipfile(last) or not (previous.exists() and zipfile.is_zipfile(previous)):
        return last
    if place().rank == 0:
        print(f"{last} is torn; goes on with {previous}, the one before.", file=sys.stderr)
    return previous


def _is_launched() -> bool:
    """Whether torchrun or SLURM has started this process; a rank that segframe has started goes by its supervisor."""
    return ("RANK" in os.environ or "SLURM_RESTART_COUNT" in os.environ) and SUPERVISED_VARIABLE not in os.environ


def _is_same_job(folder: Path) -> bool:
    """Whether a run folder was written by the job that this process belongs to."""
    try:
        before = json.loads((folder / "environment.json").read_text(encoding="utf-8")).get("job")
    except (OSError, ValueError):
        return False
    return before is not None and before == job_name()


def _warn(restarted: bool) -> None:
    """Says once that a run without a folder of a known name begins again when it is started again."""
    restarts = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"))
    if place().rank == 0 and (restarts or restarted):
        begins = "This restart begins" if restarted else "A restart by torchrun would begin"
        print(f"{begins} a new run: give run.dir=FOLDER, and it goes on from the last checkpoint.", file=sys.stderr)
