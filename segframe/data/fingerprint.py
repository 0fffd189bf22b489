"""Whether a data set is still the one that was checked or cached: by its files' sizes and times."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segframe.contracts import FileBacked, SegmentationDataset

CACHE_VARIABLE = "SEGFRAME_CACHE"
"""Names the folder for what is worth keeping between runs; the default is ``~/.cache/segframe``."""


def cache_root() -> Path:
    """Returns the folder for caches and for the memory of checks."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "segframe"


def identity_key(identity: Mapping[str, Any]) -> str:
    """Returns a short name for a data set's configuration: its class, root, split and whatever else it takes."""
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def fingerprint(dataset: SegmentationDataset, identity: Mapping[str, Any]) -> str:
    """Returns a hash that changes with the configuration, or with any file's path, size or time of change.

    A data set without files is known by its configuration alone.

    Args:
        dataset: The pairs.
        identity: The data set's node of the configuration, as plain values.
    """
    digest = hashlib.blake2b(identity_key(identity).encode(), digest_size=16)
    for size, changed, path in file_states(dataset):
        digest.update(f"{size} {changed} {path}\n".encode())
    return digest.hexdigest()


def file_states(dataset: SegmentationDataset) -> list[tuple[int, int, str]]:
    """Returns (bytes, time of change in ns, path) of every file; a missing one has -1 for both."""
    if not isinstance(dataset, FileBacked):
        return []
    states = []
    for index in range(len(dataset)):
        for path in dataset.files(index):
            try:
                status = path.stat()
                states.append((status.st_size, status.st_mtime_ns, str(path.absolute())))
            except OSError:
                states.append((-1, -1, str(path.absolute())))
    return states
