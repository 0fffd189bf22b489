"""Where a data set comes from, and how its archive gets here: resumed after every interruption, and checked."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from tqdm import tqdm

_CHUNK = 2**20  # bytes that are read at once
_TIMEOUT_S = 60.0  # some of the servers take most of a minute to answer
_TRIES = 6  # that bring nothing new, one after another
_LONGEST_WAIT_S = 30.0
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # HTTP states that may be gone in a moment
_NO_NETWORK = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ECONNREFUSED)


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
    """

    url: str
    algorithm: str
    checksum: str
    size: int
    unpacked: int
    holds: str
    parts: Mapping[str, Manual] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The archive's file name."""
        return Path(unquote(urlsplit(self.url).path)).name


def fetch(url: str, path: Path, wait_s: float = 1.0) -> None:
    """Downloads a file; goes on where an earlier call was stopped, unless the file on the server has changed.

    What has come stands in ``NAME.part`` until it is complete, and what the server called it in ``NAME.part.json``.

    Args:
        url: The address, http or https.
        path: Where to put the file.
        wait_s: Seconds before the first repetition; doubled each time that brings nothing new.

    Raises:
        DownloadError: If the server cannot be reached, refuses, or keeps dropping the connection.
    """
    part = _Part(path, url)
    furthest, failures = -1, 0
    while True:
        try:
            _receive(part)
            break
        except _DroppedError as dropped:
            failures = failures + 1 if part.have <= furthest else 1
            furthest = max(furthest, part.have)
            if failures >= _TRIES:
                raise DownloadError(f"{url}: {dropped}, {_TRIES} times without anything new. {part.kept()}") from None
            pause = min(wait_s * 2 ** (failures - 1), _LONGEST_WAIT_S)
            tqdm.write(f"{path.name}: {dropped}; goes on in {pause:.0f} s")
            time.sleep(pause)
    part.finish()


class _DroppedError(Exception):
    """The connection ended before the file did."""


class _Part:
    """A file that has not come whole yet."""

    def __init__(self, path: Path, url: str) -> None:
        self.path, self.url = path, url
        self.file, self.note = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.json")
        try:
            self.known: dict[str, Any] = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.known = {}
        if not self.known or self.known.get("url") != url:
            self.restart({})

    @property
    def have(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    def restart(self, known: dict[str, Any]) -> None:
        """Forgets what has come, and notes what is coming."""
        self.file.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)
        self.known = known
        if known:
            self.note.write_text(json.dumps(known), encoding="utf-8")

    def finish(self) -> None:
        self.file.replace(self.path)
        self.note.unlink(missing_ok=True)

    def kept(self) -> str:
        if not self.have:
            return "Call again later."
        return f"The {gib(self.have)} that came are kept in {self.file}; call again to go on."


def _receive(part: _Part) -> None:
    """Receives what is missing, or raises _DroppedError."""
    try:
        with _answer(part) as answer:
            if answer is None:
                return
            total, start = part.known["total"], part.have
            with tqdm(
                total=total, initial=start, unit="B", unit_scale=True, unit_divisor=1024, desc=part.path.name
            ) as bar:
                _write(answer, part, bar)
    except urllib.error.HTTPError as error:
        if error.code not in _PASSING:
            raise DownloadError(f"{part.url}: the server says {error.code} {error.reason}.") from error
        raise _DroppedError(f"the server says {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        if not part.have and _is_final(error.reason):
            raise DownloadError(f"{part.url} cannot be reached: {error.reason}.") from error
        raise _DroppedError(f"no connection ({error.reason})") from error
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _DroppedError(f"the connection was lost ({error or type(error).__name__})") from error
    if total is not None and part.have < total:
        raise _DroppedError(f"the connection was lost at {gib(part.have)} of {gib(total)}")


def _is_final(reason: object) -> bool:
    """Whether trying again at once is pointless: no network, no such host, a wrong certificate."""
    import ssl

    if isinstance(reason, OSError) and reason.errno in _NO_NETWORK:
        return True
    return isinstance(reason, (socket.gaierror, ssl.SSLCertVerificationError, str))


def _write(answer: IO[bytes], part: _Part, bar: Any) -> None:
    try:
        with part.file.open("ab") as file:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DownloadError(f"The disk of {part.file} is full. Make room. {part.kept()}") from error
        raise


@contextmanager
def _answer(part: _Part) -> Iterator[Any]:
    """Gives the server's answer, set to where the part ends; None if nothing is missing."""
    from segframe import __version__

    headers = {"User-Agent": f"segframe/{__version__}"}
    have = part.have
    if have:
        headers["Range"] = f"bytes={have}-"
        if part.known.get("validator"):
            headers["If-Range"] = part.known["validator"]
    try:
        answer = urllib.request.urlopen(urllib.request.Request(part.url, headers=headers), timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        error.close()
        if have == part.known.get("total") and _total(error.headers) in (None, have):
            yield None
            return
        part.restart({})
        raise _DroppedError("the file on the server has changed") from error
    with answer:
        length = answer.headers.get("Content-Length")
        total = _total(answer.headers) if answer.status == 206 else int(length) if length else None
        continues = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if have and not (continues and total == part.known.get("total")):
            tqdm.write(f"{part.path.name}: the server sends another file or cannot go on in the middle; starts again")
        if not (have and continues and total == part.known.get("total")):
            if answer.status == 206:
                part.restart({})
                raise _DroppedError("the file on the server has changed")
            part.restart({"url": part.url, "total": total, "validator": _validator(answer.headers)})
        yield answer


def _total(headers: Any) -> int | None:
    """Returns the size of the whole file from ``Content-Range: bytes 5-9/10``."""
    text = (headers.get("Content-Range") or "").rpartition("/")[2]
    return int(text) if text.isdigit() else None


def _validator(headers: Any) -> str | None:
    """Returns what tells the file from a later one; a weak ETag may not stand in If-Range."""
    tag: str | None = headers.get("ETag")
    changed: str | None = headers.get("Last-Modified")
    return tag if tag and not tag.startswith("W/") else changed


def verify(path: Path, source: Download) -> None:
    """Checks an archive's checksum.

    Raises:
        DownloadError: If it is another.
    """
    digest = hashlib.new(source.algorithm, usedforsecurity=False)
    size = path.stat().st_size
    with (
        path.open("rb") as file,
        tqdm(
            total=size, unit="B", unit_scale=True, unit_divisor=1024, desc=f"{source.algorithm} of {path.name}"
        ) as bar,
    ):
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    if digest.hexdigest() != source.checksum:
        raise DownloadError(
            f"{path} ({size} bytes) has another checksum than the data set's archive: expected {source.algorithm} "
            f"{source.checksum}, got {digest.hexdigest()}."
        )


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
