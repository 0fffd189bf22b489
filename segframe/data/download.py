"""Where a data set comes from: an archive that anybody may fetch, or words on how to get it."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
"""How a full disk, or a quota that is used up, shows."""


class DownloadError(Exception):
    """A data set cannot be fetched or unpacked; the message says how to go on."""


@dataclass(frozen=True)
class Manual:
    """What everybody has to fetch for themselves.

    Attributes:
        text: What to do; ``{root}`` stands for the root.
        words: The configuration that uses it, over the data set's YAML file.
    """

    text: str
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Download:
    """An archive that anybody may fetch.

    Attributes:
        url: Its address; ends in the file's name.
        algorithm: Of the checksum, as ``hashlib`` calls it.
        checksum: In hexadecimal digits.
        size: Bytes of the archive, about.
        unpacked: Bytes of its files on a disk, about.
        holds: The folder in it that is the data set.
        parts: What can be added by hand, by name.
        mirrors: Other addresses of the same file.
    """

    url: str
    algorithm: str
    checksum: str
    size: int
    unpacked: int
    holds: str
    parts: Mapping[str, Manual] = field(default_factory=dict)
    mirrors: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The archive's file name."""
        return Path(unquote(urlsplit(self.url).path)).name


def require_space(folder: Path, archive: int, unpacked: int) -> str:
    """Returns what is needed and free on a folder's disk, in words.

    Args:
        folder: Where the files will stand; exists.
        archive: Bytes of the archive that are still to come.
        unpacked: Bytes of the files.

    Raises:
        DownloadError: If it does not fit.
    """
    free = shutil.disk_usage(folder).free
    said = f"needs {gib(archive)} for the archive and {gib(unpacked)} unpacked; {gib(free)} free in {folder}"
    if free < archive + unpacked:
        raise DownloadError(f"The disk is too full: {said}. Make room, or choose another folder with root=DIR.")
    return said


def gib(count: int) -> str:
    """Returns bytes as text: ``1.9 GiB``."""
    amount, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
