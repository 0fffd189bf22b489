"""Some rows of an image file: as much of it is decoded as its format allows.

A PNG is one compressed stream from the first row to the last, so decoding can end early but not begin late. What is
decoded is the file with another height in its header. Decoders stop after so many rows; two of them (kornia-rs and
Pillow) without a word about what is left. On 1024 x 2048 RGB, half of the rows took 13 of 33 ms by kornia-rs and 27
of 60 ms by Pillow (2026, one core). Every other format is decoded as a whole: OpenCV alone has its pixels to the bit,
and it can't stop, or warns on the terminal when it has.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from segframe.data import fast_png
from segframe.data.decode import Labels, Pixels, decode_image, decode_labels
from segframe.data.integrity import PNG, whole

_PLAIN = (b"\x08\x00", b"\x08\x02")  # PNG's depth and colour type: 8 bits of grey, or of each of three colours
_PALETTE = 3


def read_image_rows(path: Path, rows: slice, exif: bool = True) -> Pixels:
    """Returns rows (h, W, 3) of what ``read_image`` returns.

    Args:
        path: As there.
        rows: The first, and the one behind the last.
        exif: As there.

    Raises:
        FileNotFoundError: If there is no such file.
        UnreadableError: If it is truncated, damaged or no image.
    """
    content = whole(path)
    is_plain = content[24:26] in _PLAIN and b"eXIf" not in content
    top = top_of_png(content, rows.stop) if is_plain else None
    pixels = None if top is None else _plain(top)
    if pixels is None:
        return decode_image(path, content, exif)[rows]
    pixels = pixels[rows]
    return pixels if pixels.ndim == 3 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB))


def read_label_rows(path: Path, rows: slice) -> tuple[Labels, tuple[int, int]]:
    """Returns rows of what ``read_labels`` returns, and how many rows and columns there are.

    Args:
        path: As there.
        rows: The first, and the one behind the last.

    Raises:
        FileNotFoundError: If there is no such file.
        UnreadableError: If it is truncated, damaged, no image, or compressed with loss.
    """
    content = whole(path)
    top = top_of_png(content, rows.stop)
    labels = None
    if top is not None and content[24:26] in _PLAIN:
        labels = _plain(top)
    elif top is not None and (content[25] == _PALETTE or content[24] < 8):  # Pillow reads these
        labels = decode_labels(path, top)
    if top is None or labels is None:
        labels = decode_labels(path, content)
        return labels[rows], (labels.shape[0], labels.shape[1])
    columns, height = struct.unpack(">II", content[16:24])
    return labels[rows], (height, columns)


def top_of_png(content: bytes, num_rows: int) -> bytes | None:
    """Returns a PNG that says it has so many rows, all of another's first; None where that is no shorter PNG.

    Args:
        content: A whole file.
        num_rows: At least 1.
    """
    # Interlaced rows come in seven passes over the whole picture.
    if not content.startswith(PNG) or content[28] or num_rows >= int.from_bytes(content[20:24], "big"):
        return None
    header = content[12:20] + struct.pack(">I", num_rows) + content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


def _plain(content: bytes) -> Pixels | None:
    """Returns what a plain PNG holds, grey (H, W) or RGB (H, W, 3); None where another should say what is wrong."""
    if (pixels := fast_png.decode(content)) is not None:
        return pixels
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.array(image) if image.mode in ("L", "RGB") else None
    except Exception:  # a damaged file makes Pillow's readers raise almost anything
        return None
