"""From image files to arrays: every common format, and no half-read file."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from segframe.data import fast_png
from segframe.data.integrity import GIF, JPEG, PNG, TIFF, UnreadableError, jpeg_segments, opened, unreadable, whole

__all__ = [
    "IMAGE_SUFFIXES",
    "UnreadableError",
    "decode_image",
    "decode_labels",
    "image_size",
    "read_image",
    "read_labels",
]

Pixels = NDArray[np.uint8]
Labels = NDArray[Any]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif")
"""What an image file's name may end with where a data set does not say."""

_GREY, _COLOUR, _GREY_ALPHA, _COLOUR_ALPHA = 0, 2, 4, 6  # PNG's colour types; 3 is a palette
_ORIENTATION, _WIDTH, _HEIGHT, _BITS, _COMPRESSION = 0x0112, 256, 257, 258, "compression"  # TIFF tags and a word
_LOSSLESS = "save label maps as PNG from their source, since compression changes values along every border"

# A broken file is an error with its name; OpenCV's own lines on stderr name none. Large files are the user's own.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
Image.MAX_IMAGE_PIXELS = None


def read_image(path: Path, exif: bool = True) -> Pixels:
    """Returns an image as uint8 (H, W, 3), RGB.

    Grey is repeated, alpha is dropped, CMYK is converted, and of 16 bits the upper 8 are taken. Of a
    file with several pictures the first is read.

    Args:
        path: A file of any format that OpenCV or Pillow read.
        exif: Whether to turn the image as its EXIF orientation says; a TIFF is always turned as it says.

    Raises:
        FileNotFoundError: If there is no such file.
        UnreadableError: If it is truncated, damaged or no image, or holds more than 16 bits per value.
    """
    return decode_image(path, whole(path), exif)


def decode_image(path: Path, content: bytes, exif: bool) -> Pixels:
    """Returns an image as ``read_image`` does.

    Args:
        path: The file, for errors.
        content: What ``integrity.whole`` gives of it.
        exif: As there.

    Raises:
        UnreadableError: If it is damaged or no image, or holds more than 16 bits per value.
    """
    # OpenCV multiplies the colours of a TIFF by its alpha, and blackens what is transparent in a GIF.
    if content.startswith((*TIFF, GIF)) or _is_cmyk_jpeg(content):
        return _with_pillow(path, content, exif)
    if content.startswith(PNG) and (pixels := fast_png.decode(content)) is not None:
        return pixels if pixels.ndim == 3 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB))
    deep = not content.startswith((PNG, JPEG))
    flags = cv2.IMREAD_COLOR | (cv2.IMREAD_ANYDEPTH if deep else 0) | (0 if exif else cv2.IMREAD_IGNORE_ORIENTATION)
    image = _with_opencv(path, content, flags)
    if image is None:
        return _with_pillow(path, content, exif)
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.dtype != np.uint8:
        raise _too_deep(path, str(image.dtype))
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image))


def read_labels(path: Path) -> Labels:
    """Returns what a label map's file holds: uint8 or uint16 ids (H, W), or uint8 colours (H, W, 3), RGB.

    Of a palette image the indices are taken, not its colours; alpha is dropped; grey of 1, 2 or 4 bits
    keeps its numbers.

    Raises:
        FileNotFoundError: If there is no such file.
        UnreadableError: If it is truncated, damaged, no image, or compressed with loss.
    """
    return decode_labels(path, whole(path))


def decode_labels(path: Path, content: bytes) -> Labels:
    """Returns a label map as ``read_labels`` does.

    Args:
        path: The file, for errors.
        content: What ``integrity.whole`` gives of it.

    Raises:
        UnreadableError: If it is damaged, no image, or compressed with loss.
    """
    if content.startswith(JPEG) or _is_lossy_webp(content):
        raise _lossy(path, "JPEG" if content.startswith(JPEG) else "lossy WebP")
    labels = _png_labels(path, content) if content.startswith(PNG) else _other_labels(path, content)
    if labels.dtype.kind in "iu" and labels.dtype != np.uint8 and labels.size:
        labels = labels.astype(np.uint16) if labels.min() >= 0 and labels.max() < 2**16 else labels
    if labels.dtype not in (np.uint8, np.uint16) or (labels.ndim == 3 and labels.dtype != np.uint8):
        raise UnreadableError(
            f"{path} holds {labels.dtype} values of shape {labels.shape}; expected a label map: ids in 8 or 16 bits, "
            "or 8-bit colours. Convert it."
        )
    return labels


def image_size(path: Path, exif: bool = True) -> tuple[int, int]:
    """Returns the rows and columns of an image, as ``read_image`` would give it, from its header alone.

    Raises:
        FileNotFoundError: If there is no such file.
        UnreadableError: If it is no image.
    """
    with opened(path) as file:
        head = file.read(33 + 8)
        if head.startswith(PNG) and head[37:41] == b"IDAT":  # nothing that could turn it
            columns, rows = struct.unpack(">II", head[16:24])
            return rows, columns
        file.seek(0)
        with _pillow(path, file) as image:
            orientation = image.getexif().get(_ORIENTATION, 1)
            columns, rows = image.size
            if image.format == "TIFF":
                # Pillow's own answer is turned in some versions and not in others.
                columns, rows = image.tag_v2[_WIDTH], image.tag_v2[_HEIGHT]
            is_turned = (exif or image.format == "TIFF") and 5 <= orientation <= 8
    return (columns, rows) if is_turned else (rows, columns)


@contextmanager
def _pillow(path: Path, file: Any) -> Iterator[Any]:
    """Opens a file with Pillow; whatever is wrong with it is one kind of error, and no warning."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file) as image:
            yield image
    except UnreadableError:
        raise
    except Exception as error:  # a damaged file makes Pillow's readers raise almost anything
        file.seek(0)
        raise unreadable(path, file.read()) from error


def _with_pillow(path: Path, content: bytes, exif: bool) -> Pixels:
    with _pillow(path, io.BytesIO(content)) as image:
        if image.mode in ("I", "F"):
            raise _too_deep(path, f"32-bit {'float' if image.mode == 'F' else 'integer'}")
        turned = ImageOps.exif_transpose(image) if exif else image
        if turned.mode.startswith("I;16"):
            return np.asarray(cv2.cvtColor((np.array(turned) >> 8).astype(np.uint8), cv2.COLOR_GRAY2RGB))
        return np.array(turned.convert("RGB"))


def _with_opencv(path: Path, content: bytes, flags: int) -> Any:
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise unreadable(path, content) from error


def _too_deep(path: Path, kind: str) -> UnreadableError:
    return UnreadableError(f"{path} holds {kind} values; expected 8 or 16 bits. Save it as an 8-bit image.")


def _lossy(path: Path, kind: str) -> UnreadableError:
    return UnreadableError(f"{path} is a {kind} file, and a label map must keep its values exactly; {_LOSSLESS}.")


def _is_cmyk_jpeg(content: bytes) -> bool:
    """Whether a JPEG's frame header names four components."""
    if not content.startswith(JPEG):
        return False
    frames = (at for kind, at in jpeg_segments(content) if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC))
    return content[next(frames, -9) + 9 :][:1] == b"\x04"


def _is_lossy_webp(content: bytes) -> bool:
    """Whether a WebP holds a lossy picture, plain or beside an alpha channel."""
    if content[8:12] != b"WEBP":
        return False
    at = 12
    while at + 8 <= len(content):
        if content[at : at + 4] == b"VP8 ":
            return True
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        at += 24 if content[at : at + 4] == b"ANMF" else 8 + size + size % 2  # a frame's chunks stand inside it
    return False


def _png_labels(path: Path, content: bytes) -> Labels:
    depth, colour = content[24], content[25]
    if (pixels := fast_png.decode(content)) is not None:
        return pixels
    if depth >= 8 and colour in (_GREY, _COLOUR, _GREY_ALPHA, _COLOUR_ALPHA):
        # Pillow would cut 16 bits to 8 wherever there is more than one channel.
        labels = _with_opencv(path, content, cv2.IMREAD_UNCHANGED)
        if labels is None:
            raise unreadable(path, content)
        if colour in (_COLOUR, _COLOUR_ALPHA):
            return np.ascontiguousarray(labels[..., 2::-1])
        return np.ascontiguousarray(labels[..., 0] if labels.ndim == 3 else labels)
    return _in_steps_of_one(_other_labels(path, content), depth if colour == _GREY else 8)


def _other_labels(path: Path, content: bytes) -> Labels:
    with _pillow(path, io.BytesIO(content)) as image:
        bits = image.tag_v2.get(_BITS, (8,))[0] if image.format == "TIFF" and image.mode == "L" else 8
        if "jpeg" in str(image.info.get(_COMPRESSION)):
            raise _lossy(path, "JPEG-compressed TIFF")
        if image.mode in ("LA", "PA"):
            image = image.getchannel(0)
        elif image.mode in ("RGBA", "RGBX", "CMYK"):
            image = image.convert("RGB")
        labels = np.array(image)
    return _in_steps_of_one(labels.astype(np.uint8) if labels.dtype == np.bool_ else labels, bits)


def _in_steps_of_one(labels: Labels, bits: int) -> Labels:
    """Undoes what Pillow does to 2 and 4 bits of grey, which it stretches over 0 to 255."""
    return labels // (255 // (2**bits - 1)) if bits in (2, 4) else labels
