"""Whether an image file is whole, before a decoder sees it: a damaged one must not become half a picture."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PNG, JPEG, GIF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8"
TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")

_START_OF_SCAN = 0xDA
_TRAILER = 1024  # bytes behind a JPEG's end marker in which it is found without a search
_END = struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))
# PNG's critical chunks begin with a capital. Of the others only the orientation changes what is read;
# the rest is left out, since libpng writes warnings to stderr about profiles that it doesn't like.
_KEPT = (b"eXIf",)


class UnreadableError(ValueError):
    """A file is truncated, no image, or of a kind that cannot hold what it should; names the file."""


def whole(path: Path) -> bytes:
    """Returns the content of an image file that is complete; of a PNG, what is needed for its pixels.

    Every chunk of a PNG has a checksum, which costs 3 % of its decoding to compare. JPEG has none: there
    only the end is looked for.

    Raises:
        FileNotFoundError: If there is no such file.
        UnreadableError: If it is empty, truncated or damaged, or must not be read.
    """
    with opened(path) as file:
        content: bytes = file.read()
    if content.startswith(PNG):
        return _checked_png(path, content)
    if not content or (content.startswith(JPEG) and not _has_end(content)):
        raise unreadable(path, content)
    return content


def opened(path: Path) -> Any:
    """Returns the open file.

    Raises:
        FileNotFoundError: If there is no such file.
        UnreadableError: If it is a folder, or must not be read.
    """
    try:
        return path.open("rb")
    except IsADirectoryError as error:
        raise UnreadableError(f"{path} is a folder, not an image; remove it or rename it.") from error
    except PermissionError as error:
        raise UnreadableError(f"{path} must not be read by this user; allow it with: chmod u+r FILE.") from error


def unreadable(path: Path, content: bytes) -> UnreadableError:
    """Returns the error that says what a file seems to be instead of an image."""
    begin = content[:64].lstrip().lower()
    if begin.startswith((b"<!doctype", b"<html", b"<?xml")):
        what = "is a web page, not an image: its download failed; download it again"
    elif begin.startswith(b"version https://git-lfs"):
        what = "is a git-lfs pointer, not an image; fetch the file itself with: git lfs pull"
    elif not content:
        what = "is empty, so truncated or never written; copy or download it again"
    elif content.startswith(TIFF):
        what = (
            "is a truncated TIFF file, or one of a kind that is not read (more than 4 channels, or over 16 bits); "
            "copy it again, or save it as 8-bit RGB"
        )
    else:
        what = "is truncated or no image; copy or download it again"
    return UnreadableError(f"{path} ({len(content)} bytes) {what}.")


def _checked_png(path: Path, content: bytes) -> bytes:
    view, kept, at, count = memoryview(content), [PNG], len(PNG), 0
    while at + 12 <= len(content):
        kind, end = content[at + 4 : at + 8], at + 12 + int.from_bytes(view[at : at + 4], "big")
        if kind == b"IEND":
            is_clean = len(kept) == count + 1 and content[at : at + len(_END)] == _END
            return content if is_clean else b"".join([*kept, _END])
        if end > len(content) or (at == len(PNG) and kind != b"IHDR"):
            break
        if kind in _KEPT or kind[:1].isupper():
            if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
                raise UnreadableError(
                    f"{path} ({len(content)} bytes) is damaged: its checksum is wrong in the {kind.decode('latin-1')} "
                    f"chunk at byte {at}; copy or download it again."
                )
            kept.append(view[at:end])  # type: ignore[arg-type]
        at, count = end, count + 1
    raise unreadable(path, content)


def _has_end(content: bytes) -> bool:
    """Whether a JPEG has an end marker behind the start of its picture.

    Where a download has left zeros in place of the rest, decoders make a picture of them without a word.
    """
    if b"\xff\xd9" in content[-_TRAILER:]:
        return True
    start = next((at for kind, at in jpeg_segments(content) if kind == _START_OF_SCAN), None)
    return start is not None and content.find(b"\xff\xd9", start) >= 0


def jpeg_segments(content: bytes) -> Iterator[tuple[int, int]]:
    """Yields the kind and the place of each segment of a JPEG, up to the first that holds pixels."""
    at, kind = 2, 0
    while at + 4 <= len(content) and content[at] == 0xFF and kind != _START_OF_SCAN:
        kind = content[at + 1]
        if kind == 0xFF:  # padding before a marker
            at += 1
            continue
        yield kind, at
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
