"""Downloads a file, and goes on where an earlier attempt was stopped."""

from __future__ import annotations

import errno
import http.client
import json
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from segframe import __version__
from segframe.data.download import NO_SPACE, DownloadError, gib

_CHUNK = 2**20  # bytes that are read at once
_TIMEOUT_S = 30.0  # without a byte
_TRIES = 6  # that bring nothing new, one after another
_LONGEST_WAIT_S = 30.0
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # HTTP states that may be gone in a moment
_NO_NETWORK = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ECONNREFUSED)


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
            tqdm.write(f"{path.name}: {dropped}; goes on in {pause:.0f} s", file=sys.stderr)
            time.sleep(pause)
    part.finish()


class _DroppedError(Exception):
    """The connection ended before the file did; the message says how."""


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

    def changed(self) -> _DroppedError:
        """Forgets what has come of a file that is another one now."""
        self.restart({})
        return _DroppedError("the file on the server has changed")

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
        answer = _answer(part)
        if answer is None:
            return
        total, sizes = part.known["total"], {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
        with answer, tqdm(total=total, initial=part.have, desc=part.path.name, **sizes) as bar:
            _write(answer, part, bar)
    except urllib.error.HTTPError as error:
        if error.code not in _PASSING:
            raise DownloadError(f"{part.url}: the server says {error.code} {error.reason}.") from error
        raise _DroppedError(f"the server says {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        if not part.have and _is_final(error.reason):
            raise DownloadError(f"{part.url} cannot be reached: {error.reason}.") from error
        raise _DroppedError(f"no connection ({error.reason})") from error
    except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise _DroppedError(f"the connection was lost ({error or type(error).__name__})") from error
    if total is not None and part.have < total:
        raise _DroppedError(f"the connection was lost at {gib(part.have)} of {gib(total)}")


def _is_final(reason: object) -> bool:
    """Whether trying again at once is pointless: no network, no such host, a wrong certificate."""
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
        if error.errno in NO_SPACE:
            raise DownloadError(f"The disk of {part.file} is full. Make room. {part.kept()}") from error
        raise


def _answer(part: _Part) -> Any:
    """Returns the server's answer, which begins where the part ends; None if nothing is missing."""
    have = part.have
    headers = {"User-Agent": f"segframe/{__version__}"}
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
            return None
        raise part.changed() from error
    if answer.status == 206:
        begins = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if begins and _total(answer.headers) == part.known.get("total"):
            return answer
        answer.close()
        raise part.changed()
    if have:
        tqdm.write(f"{part.path.name}: the server sends the whole file, so it starts again", file=sys.stderr)
    length = answer.headers.get("Content-Length")
    total = int(length) if length else None
    part.restart({"url": part.url, "total": total, "validator": _validator(answer.headers)})
    return answer


def _total(headers: Any) -> int | None:
    """Returns the size of the whole file from ``Content-Range: bytes 5-9/10``."""
    text = (headers.get("Content-Range") or "").rpartition("/")[2]
    return int(text) if text.isdigit() else None


def _validator(headers: Any) -> str | None:
    """Returns what tells the file from a later one; a weak ETag may not stand in If-Range."""
    tag: str | None = headers.get("ETag")
    changed: str | None = headers.get("Last-Modified")
    return tag if tag and not tag.startswith("W/") else changed
