"""Verifies an archive and unpacks it beside its place, then moves it there, so that nothing half is ever found."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from tqdm import tqdm

from segframe.data.download import NO_SPACE, Download, DownloadError

_CHUNK = 2**20  # bytes that are read at once
_DAMAGED = (tarfile.ReadError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError)


def verify(path: Path, source: Download) -> None:
    """Checks an archive's checksum.

    Raises:
        DownloadError: If it is another.
    """
    digest = hashlib.new(source.algorithm, usedforsecurity=False)
    size, begin = path.stat().st_size, b""
    with (
        path.open("rb") as file,
        tqdm(total=size, unit="B", unit_scale=True, unit_divisor=1024, desc=f"checking {path.name}") as bar,
    ):
        while chunk := file.read(_CHUNK):
            begin = begin or chunk[:64]
            digest.update(chunk)
            bar.update(len(chunk))
    if digest.hexdigest() != source.checksum:
        page = " It is a web page; was there a login or a proxy?" if begin.lstrip().startswith(b"<") else ""
        raise DownloadError(
            f"{path} ({size} bytes) has another checksum than the data set's archive: expected {source.algorithm} "
            f"{source.checksum}, got {digest.hexdigest()}.{page}"
        )


def unpack(archive: Path, root: Path, holds: str) -> Path:
    """Unpacks the one folder of an archive that is wanted, and returns where it stands.

    Args:
        archive: A tar file, compressed or not, or a zip file.
        root: Where the folder will be.
        holds: The folder's path in the archive and below ``root``.

    Raises:
        DownloadError: If the archive is damaged, has a member that would land elsewhere, or has not the
            folder; or if the disk is full, or the folder is there already.
    """
    target, scratch = root / holds, root / f".{archive.name}.unpacking"
    if target.exists():
        raise DownloadError(f"{target} is there already; move it away to have it unpacked anew.")
    shutil.rmtree(scratch, ignore_errors=True)  # of a call that was killed
    scratch.mkdir(parents=True)
    try:
        _extract(archive, scratch)
        if not (scratch / holds).is_dir():
            found = ", ".join(sorted(path.name for path in scratch.iterdir())[:5]) or "nothing"
            raise DownloadError(f"{archive} has no folder {holds}; it holds {found}. Get the data set's own archive.")
        target.parent.mkdir(parents=True, exist_ok=True)
        (scratch / holds).rename(target)
    except _DAMAGED as error:
        raise DownloadError(
            f"{archive} is damaged ({str(error).partition(':')[0]}). Delete it and call again."
        ) from error
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise DownloadError(f"The disk of {root} is full. Nothing was left unpacked; make room, call again.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _extract(archive: Path, folder: Path) -> None:
    size, is_zip = archive.stat().st_size, zipfile.is_zipfile(archive)
    with (
        archive.open("rb") as raw,
        tqdm(total=size, unit="B", unit_scale=True, unit_divisor=1024, desc=f"unpacking {archive.name}") as bar,
        zipfile.ZipFile(raw) if is_zip else tarfile.open(fileobj=raw) as opened,
    ):
        for member in opened.infolist() if isinstance(opened, zipfile.ZipFile) else opened:
            _extract_member(opened, member, folder)
            bar.update(raw.tell() - bar.n)


def _extract_member(opened: Any, member: Any, folder: Path) -> None:
    if isinstance(member, zipfile.ZipInfo):
        if _escapes(member.orig_filename) or stat.S_ISLNK(member.external_attr >> 16):
            raise _refused(opened.filename, member.orig_filename, "it would land outside the folder or is a link")
        opened.extract(member, folder)
        return
    if not hasattr(tarfile, "data_filter"):
        raise DownloadError("Python 3.11.4 or later is needed to unpack an archive safely; unpack it by hand.")
    if _escapes(member.name):
        raise _refused(opened.name, member.name, "it would land outside the folder")
    try:
        opened.extract(member, folder, filter="data")
    except tarfile.FilterError as error:
        raise _refused(opened.name, member.name, str(error)) from error


def _escapes(name: str) -> bool:
    windows = PureWindowsPath(name)
    return ".." in windows.parts or bool(windows.drive) or PurePosixPath(name).is_absolute() or windows.is_absolute()


def _refused(archive: str | Path, member: str, reason: str) -> DownloadError:
    return DownloadError(
        f"{archive} has a member that no data set needs, {member!r}: {reason}. Nothing was unpacked; do not trust it."
    )
