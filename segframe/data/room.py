"""How much can be written to a folder, in memory no more than the system can spare."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")

_CGROUP = Path("/sys/fs/cgroup")
# Limit, use and kinds of use by the versions of control groups, and the kinds that files have left in memory.
_VERSIONS = (
    ("memory.max", "memory.current", "memory.stat", ("active_file", "inactive_file")),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        ("total_active_file", "total_inactive_file"),
    ),
)


def free_bytes(folder: Path) -> int:
    """Returns the bytes that can be written below a folder."""
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    return min(free, spare_memory()) if folder.is_relative_to(SHARED_MEMORY) else free


def spare_memory(machine: Path = Path("/proc/meminfo"), container: Path = _CGROUP) -> int:
    """Returns the bytes of memory that the machine and this container can spare.

    Args:
        machine: What the system tells of its memory.
        container: The folder of this container's control group.
    """
    spare = [2**63]
    with suppress(OSError, ValueError, KeyError):  # another system
        spare.append(1024 * _numbers(machine)["MemAvailable:"])
    for limit, used, kinds, of_files in _VERSIONS:
        with suppress(OSError, ValueError, KeyError):  # another version, or no limit
            # What files have left in memory counts as used, and is given up as soon as it is needed.
            files = sum(_numbers(container / kinds)[name] for name in of_files)
            spare.append(_number(container / limit) - _number(container / used) + files)
    return max(0, min(spare))


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


def _numbers(path: Path) -> dict[str, int]:
    lines = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1}
