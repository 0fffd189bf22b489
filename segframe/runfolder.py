"""The folder of a run: what was asked for, what it ran on, what came out."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import platform
import resource
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from segframe.ranks import is_main_process as is_main_process

_PACKAGES = (
    "segframe",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "segmentation-models-pytorch",
    "timm",
    "hydra-core",
    "numpy",
    "opencv-python-headless",
)
_NOT_HASHED = ("run", "resume", "logger", "check")  # where and how it is told, not what is computed
_TELLING_CALLBACKS = ("checkpoints", "training_log", "progress_bar")


def prepare(folder: Path, values: dict[str, Any], overrides: Sequence[str], job: str | None = None) -> None:
    """Writes the configuration, the words it came from, versions and the state of git.

    Args:
        folder: The run folder; made if it is missing.
        values: The resolved configuration.
        overrides: The command line's words, which ``resume`` composes from.
        job: The name of the torchrun or SLURM job that the run belongs to.

    Raises:
        OSError: If the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise unwritable(folder, error) from error
    write_json(folder / "overrides.json", list(overrides))
    environment = {
        "versions": versions(),
        "git": git_state(),
        "command": sys.argv,
        "job": job,
        "started": _first_start(folder),
        "process": own_process(),
    }
    write_json(folder / "environment.json", environment)


def own_process() -> dict[str, Any]:
    """Returns what tells this process from all others, for ``is_alive``."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "start": _start_of(os.getpid())}


def is_alive(process: Any) -> bool | None:
    """Returns whether a process still runs; None where that can't be known here.

    Args:
        process: What ``own_process`` has returned there.
    """
    if not isinstance(process, dict) or process.get("host") != socket.gethostname():
        return None
    pid, start = process.get("pid"), process.get("start")
    if not isinstance(pid, int) or start is None:
        return None
    return bool(_start_of(pid) == start)


def _start_of(pid: int) -> int | None:
    """Returns when a process began, in ticks since the system did; None without such a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _first_start(folder: Path) -> float:
    """Returns when a run that goes on was started first, in seconds since 1970; now for a new one."""
    try:
        return float(json.loads((folder / "environment.json").read_text(encoding="utf-8"))["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return time.time()


def unwritable(folder: Path, error: OSError) -> OSError:
    """Returns what to say of a run folder that can't be written.

    Args:
        folder: The run folder.
        error: What the system says.
    """
    return OSError(f"run.dir={folder} can't be written ({error.strerror}); give another run.dir.")


def kept_records(folder: Path) -> dict[Path, bytes]:
    """Returns what a run that goes on would overwrite: what it was started with, and results it finished with."""
    files = {folder / name for name in ("config.yaml", "overrides.json", "environment.json", "results.json")}
    kept = {file: file.read_bytes() for file in files if file.exists()}
    results = kept.pop(folder / "results.json", b"")
    return kept | ({folder / "results.json": results} if b'"status": "finished"' in results else {})


def restore(records: dict[Path, bytes]) -> None:
    """Puts back what ``kept_records`` has kept."""
    for file, content in records.items():
        file.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def config_hash(values: dict[str, Any]) -> str:
    """Returns 12 hexadecimal digits that are equal for runs that compute the same."""
    kept = {key: value for key, value in values.items() if key not in _NOT_HASHED}
    callbacks = values.get("callbacks") or {}
    kept["callbacks"] = {key: value for key, value in callbacks.items() if key not in _TELLING_CALLBACKS}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that decide numbers."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            from segframe import __version__

            found[package] = __version__ if package == "segframe" else "absent"
    return found


def git_state() -> dict[str, Any] | None:
    """Returns the commit of the code and whether it was changed since, or None outside a checkout."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        answer = subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, check=True, timeout=10
        )
        return answer.stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None


def write_results(folder: Path, values: dict[str, Any], status: str, **more: Any) -> dict[str, Any]:
    """Writes results.json and returns its content.

    Args:
        folder: The run folder.
        values: The resolved configuration.
        status: ``running``, ``finished``, ``interrupted`` or ``failed``.
        more: Further entries, such as ``seconds_per_step``.
    """
    results = {
        "status": status,
        "metrics": final_and_best(folder / "metrics.csv"),
        "seconds_per_step": None,
        "images_per_s": None,
        "data_stall_percent": None,
        "peak_memory_gib": None,
        "config_hash": config_hash(values),
        "versions": versions(),
        **more,
    }
    write_json(folder / "results.json", results)
    return results


def final_and_best(metrics_csv: Path) -> dict[str, dict[str, float | None]]:
    """Returns the last and the best value of every logged ``train/`` and ``val/`` key.

    The best loss or count of empty batches is the smallest; the best of anything else the largest.
    None stands for a number that is not finite, which JSON can't hold.
    """
    if not metrics_csv.exists():
        return {}
    with metrics_csv.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found: dict[str, dict[str, float | None]] = {}
    for key in rows[0] if rows else ():
        values = [float(row[key]) for row in rows if row.get(key)]
        if values and key.startswith(("train/", "val/")):
            best = min if key.endswith(("loss", "empty_batches")) else max
            finite = [value for value in values if math.isfinite(value)]
            final = values[-1] if math.isfinite(values[-1]) else None
            found[key] = {"final": final, "best": best(finite, default=None)}
    return found


def peak_memory_gib() -> float:
    """Returns the most memory that this process held: on the GPU where it used one, else resident."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**30
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / 2**20 if sys.platform != "darwin" else kib / 2**30


def command() -> str:
    """Returns how the user calls segframe, for a shell: by its name where that finds it."""
    if shutil.which("segframe"):
        return "segframe"
    return f"{shlex.quote(os.path.relpath(sys.executable))} -m segframe"
