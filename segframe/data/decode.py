"""From image files to arrays: every common format, and no half-read file."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

Pixels = NDArray[np.uint8]
Labels = NDArray[Any]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif")
"""What an image file's name may end with where a data set does not say."""

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_GREY, _COLOUR, _PALETTE = 0, 2, 3  # PNG's colour types
# Bytes: how far before the end of a JPEG its end marker may stand; some cameras write a trailer.
_TRAILER = 1024
_LOSSLESS = "save label maps as PNG from their source, since compression changes values along every border"


class UnreadableError(ValueError):
    """A file is truncated, no image, or of a kind that cannot hold what it should; names the file."""


def read_image(path: Path, exif: bool = True) -> Pixels:
    """Returns an image as uint8 (H, W, 3), RGB.

    Grey is repeated, alpha is dropped, CMYK is converted, and of 16 bits the upper 8 are taken.

    Args:
        path: A file of any format that OpenCV or Pillow read.
        exif: Whether to turn the image as its EXIF orientation says.

    Raises:
        FileNotFoundError: If there is no such file.
        UnreadableError: If it is truncated or no image.
    """
    content = _content(path)
    if _is_cmyk_jpeg(content):
        return _with_pillow(path, content, exif)
    deep = not content.startswith((_PNG, _JPEG))
    flags = cv2.IMREAD_COLOR | (cv2.IMREAD_ANYDEPTH if deep else 0) | (0 if exif else cv2.IMREAD_IGNORE_ORIENTATION)
    image: Any = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if image is None:
        return _with_pillow(path, content, exif)
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.dtype != np.uint8:
        raise UnreadableError(f"{path} holds {image.dtype} values; expected 8 or 16 bits. Save it as an 8-bit image.")
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return np.asarray(image)


def read_labels(path: Path) -> Labels:
    """Returns what a label map's file holds: uint8 or uint16 ids (H, W), or uint8 colours (H, W, 3), RGB.

    Of a palette image the indices are taken, not its colours; alpha is dropped; grey of 1, 2 or 4 bits
    keeps its numbers.

    Raises:
        FileNotFoundError: If there is no such file.
        UnreadableError: If it is truncated, no image, or compressed with loss.
    """
    content = _content(path)
    if content.startswith(_JPEG) or content[8:16] == b"WEBPVP8 ":
        kind = "JPEG" if content.startswith(_JPEG) else "lossy WebP"
        raise UnreadableError(f"{path} is a {kind} file, and a label map must keep its values exactly; {_LOSSLESS}.")
    labels = _png_labels(path, content) if content.startswith(_PNG) else _other_labels(path, content)
    if labels.dtype == np.int32 and labels.size and labels.min() >= 0 and labels.max() < 2**16:
        labels = labels.astype(np.uint16)
    if labels.dtype not in (np.uint8, np.uint16) or (labels.ndim == 3 and labels.dtype != np.uint8):
        raise UnreadableError(
            f"{path} holds {labels.dtype} values of shape {labels.shape}; expected a label map: ids in 8 or 16 bits, "
            "or 8-bit colours. Convert it."
        )
    return labels


def image_size(path: Path, exif: bool = True) -> tuple[int, int]:
    """Returns the rows and columns of an image from its header alone.

    Raises:
        FileNotFoundError: If there is no such file.
        UnreadableError: If it is no image.
    """
    with _open(path) as file:
        head = file.read(24)
        if head.startswith(_PNG) and len(head) == 24:
            columns, rows = struct.unpack(">II", head[16:24])
            return rows, columns
        try:
            with Image.open(path) as image:
                columns, rows = image.size
                turned = exif and image.getexif().get(0x0112, 1) >= 5
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
            raise _unreadable(path, path.read_bytes()) from error
    return (columns, rows) if turned else (rows, columns)


def _open(path: Path) -> Any:
    try:
        return path.open("rb")
    except IsADirectoryError as error:
        raise UnreadableError(f"{path} is a folder, not an image; remove it or rename it.") from error


def _content(path: Path) -> bytes:
    with _open(path) as file:
        content: bytes = file.read()
    whole = True
    if content.startswith(_PNG):
        # A PNG without its end decodes to a grey rest without an error, so its last chunk is looked for.
        whole = b"IEND" in content[-16:] or b"IEND" in content[-_TRAILER:]
    elif content.startswith(_JPEG) and b"\xff\xd9" not in content[-_TRAILER:]:
        whole = _pillow_reads_all(content)
    if not content or not whole:
        raise _unreadable(path, content)
    return content


def _pillow_reads_all(content: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except (OSError, ValueError, SyntaxError):
        return False
    return True


def _unreadable(path: Path, content: bytes) -> UnreadableError:
    """Says what the file seems to be instead of an image."""
    begin = content[:64].lstrip().lower()
    if begin.startswith((b"<!doctype", b"<html", b"<?xml")):
        what = "is a web page, not an image: its download failed; download it again"
    elif begin.startswith(b"version https://git-lfs"):
        what = "is a git-lfs pointer, not an image; fetch the file itself with: git lfs pull"
    elif not content:
        what = "is empty (0 bytes), so truncated or never written; copy or download it again"
    else:
        what = "is truncated or no image; copy or download it again"
    return UnreadableError(f"{path} ({len(content)} bytes) {what}.")


def _is_cmyk_jpeg(content: bytes) -> bool:
    """Whether a JPEG's frame header names four components."""
    if not content.startswith(_JPEG):
        return False
    at = 2
    while at + 9 < len(content) and content[at] == 0xFF:
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return content[at + 9] == 4
        at += 1 if marker == 0xFF else 2 + length  # 0xFF before a marker is padding
    return False


def _with_pillow(path: Path, content: bytes, exif: bool) -> Pixels:
    from PIL import ImageOps

    try:
        with Image.open(io.BytesIO(content)) as image:
            turned = ImageOps.exif_transpose(image) if exif else image
            return np.array(turned.convert("RGB"))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise _unreadable(path, content) from error


def _png_labels(path: Path, content: bytes) -> Labels:
    depth, colour = content[24], content[25]
    if (colour == _GREY and depth >= 8) or (colour == _COLOUR and depth == 8):
        labels: Any = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if labels is None:
            raise _unreadable(path, content)
        return np.asarray(cv2.cvtColor(labels, cv2.COLOR_BGR2RGB) if colour == _COLOUR else labels)
    read = _other_labels(path, content)
    # Pillow stretches 2 and 4 bits of grey over 0 to 255, but gives one bit as 0 and 1.
    return read // (255 // (2**depth - 1)) if colour == _GREY and depth > 1 else read


def _other_labels(path: Path, content: bytes) -> Labels:
    try:
        with Image.open(io.BytesIO(content)) as image:
            mode = image.mode
            if mode in ("LA", "PA"):
                image = image.getchannel(0)  # type: ignore[assignment]
            elif mode in ("RGBA", "RGBX", "CMYK"):
                image = image.convert("RGB")  # type: ignore[assignment]
            labels = np.array(image)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise _unreadable(path, content) from error
    return labels.astype(np.uint8) if labels.dtype == np.bool_ else labels
