"""The cores and GPUs that a sweep may hand out on this machine; found without importing torch here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_ASK_TORCH = "import torch; print(torch.cuda.device_count(), int(torch.backends.mps.is_available()))"
_SIGNS_OF_GPUS = ("/proc/driver/nvidia/gpus", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
_CGROUPS = Path("/sys/fs/cgroup")


def cores() -> list[int]:
    """Returns the logical cores that this process may use, those of one physical core side by side.

    A container whose share of time is less than its cores gets as many as its share, not always the first ones: others
    on the machine would take these too.
    """
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    found = sorted(os.sched_getaffinity(0), key=_place_of_core)
    share = cgroup_share(_CGROUPS)
    if share is None or share >= len(found):
        return found
    first = os.getpid() % len(found)
    return (found[first:] + found[:first])[: max(1, int(share))]


def _place_of_core(core: int) -> tuple[int, int, int]:
    """Returns a core's socket, physical core and number."""
    folder = Path(f"/sys/devices/system/cpu/cpu{core}/topology")
    try:
        package, physical = (int((folder / name).read_text()) for name in ("physical_package_id", "core_id"))
    except (OSError, ValueError):
        return 0, core, core
    return package, physical, core


def cgroup_share(root: Path) -> float | None:
    """Returns how many cores' time a container may take; None without a limit.

    Args:
        root: Where control groups are mounted.
    """
    try:
        quota, period = (root / "cpu.max").read_text().split()  # version 2
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        limit, length = (int((root / "cpu" / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return None if limit <= 0 else limit / length
    except (OSError, ValueError):
        return None


def gpus() -> list[str]:
    """Returns what CUDA_VISIBLE_DEVICES names the GPUs by that torch can use; asks a process that imports it.

    Only where there is a sign of a GPU: that process takes seconds.
    """
    named = visible(os.environ)
    if named == [] or not (named or sys.platform == "darwin" or any(map(os.path.exists, _SIGNS_OF_GPUS))):
        return []
    answer = subprocess.run([sys.executable, "-c", _ASK_TORCH], capture_output=True, text=True, check=False)
    if answer.returncode:
        return []  # a trial tells what is wrong with torch
    count, mps = (int(word) for word in answer.stdout.split()[-2:])
    if not count:
        return ["mps"] if mps else []
    found = named or listed(_nvidia_smi())
    if any(name.startswith("MIG-") for name in found):
        return found  # of these CUDA shows a process one, whichever it is given
    # The names that nvidia-smi gives hold in whatever order CUDA counts; numbers are for what it doesn't know.
    return found[:count] if len(found) >= count else [str(number) for number in range(count)]


def visible(environment: Mapping[str, str]) -> list[str] | None:
    """Returns what CUDA_VISIBLE_DEVICES names, None where it is not set.

    Args:
        environment: The variables of the process.

    Example:
        >>> visible({"CUDA_VISIBLE_DEVICES": "2,GPU-8a,-1,3"})
        ['2', 'GPU-8a']
    """
    text = environment.get("CUDA_VISIBLE_DEVICES")
    if text is None:
        return None
    names: list[str] = []
    for name in text.split(","):
        if not name.strip() or name.strip().startswith("-"):
            break  # CUDA takes nothing from the first wrong one on
        names.append(name.strip())
    return names


def listed(text: str) -> list[str]:
    """Returns the names of GPUs, of a divided one those of its parts.

    Args:
        text: What ``nvidia-smi -L`` prints.

    Example:
        >>> listed("GPU 0: NVIDIA A100 (UUID: GPU-1)")
        ['GPU-1']
    """
    whole: list[list[str]] = []
    for line in text.splitlines():
        if not (match := re.search(r"\(UUID: ([^)]+)\)", line)):
            continue
        if line.startswith("GPU"):
            whole.append([match[1]])
        elif whole:
            whole[-1].append(match[1])
    return [name for one in whole for name in (one[1:] or one)]


def _nvidia_smi() -> str:
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def share_text(cores: Sequence[int], gpus: Sequence[str], all_gpus: Sequence[str]) -> str:
    """Returns what a trial has, for a narrow column.

    Args:
        cores: Its cores.
        gpus: Its GPUs.
        all_gpus: All that there are, which gives them numbers.

    Example:
        >>> share_text([0, 1, 2, 5], [], [])
        'cores 0-2,5'
        >>> share_text([0], ["GPU-b"], ["GPU-a", "GPU-b"])
        'GPU 1'
    """
    numbers = [all_gpus.index(gpu) for gpu in gpus] or sorted(cores)
    word = "GPU" if gpus else "core"
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    shown = ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
    return f"{word}{'s' if len(numbers) > 1 else ''} {shown}"
