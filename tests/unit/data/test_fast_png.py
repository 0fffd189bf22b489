"""The faster decoder gives OpenCV's pixels, and leaves to others what it cannot read."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from segframe.data import fast_png
from segframe.data.decode import UnreadableError, read_image, read_labels
from segframe.data.integrity import whole

SIZES = ((1, 1), (3, 5), (37, 64), (64, 37))


@pytest.fixture(autouse=True)
def installed():
    pytest.importorskip("kornia_rs.io")


def pixels(size, channels):
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.arange(size[0]), np.arange(size[1]))[..., None] * np.arange(1, 4)
    return (
        (smooth + rng.integers(0, 20, (*size, 3))).astype(np.uint8)[..., :channels].squeeze(-1 if channels == 1 else ())
    )


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(content, kind, data):
    return content[:33] + chunk(kind, data) + content[33:]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "filtered", [cv2.IMWRITE_PNG_FILTER_NONE, cv2.IMWRITE_PNG_FILTER_PAETH, cv2.IMWRITE_PNG_ALL_FILTERS]
)
def test_gives_the_pixels_that_were_written(tmp_path, size, filtered):
    path = tmp_path / "a.png"
    image = pixels(size, 3)
    cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_PNG_FILTER, filtered])
    assert np.array_equal(fast_png.decode(whole(path)), image)
    assert np.array_equal(read_image(path), image)
    assert read_image(path).flags.writeable
    assert np.array_equal(read_labels(path), image)
    grey = pixels(size, 1)
    cv2.imwrite(str(path), grey, [cv2.IMWRITE_PNG_FILTER, filtered])
    assert np.array_equal(fast_png.decode(whole(path)), grey)
    assert np.array_equal(read_labels(path), grey)
    assert np.array_equal(read_image(path), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "I;16"])
def test_leaves_other_kinds_to_others(tmp_path, mode):
    path = tmp_path / "a.png"
    image = Image.fromarray(pixels((9, 7), 1))
    (image.convert("I").convert(mode) if mode == "I;16" else image.convert(mode)).save(path)
    assert fast_png.decode(whole(path)) is None
    assert read_image(path).shape == (9, 7, 3)


def test_leaves_an_orientation_to_opencv(tmp_path):
    path = tmp_path / "a.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels((9, 7), 3)).save(path, exif=exif)
    assert fast_png.decode(whole(path)) is None
    assert read_image(path).shape == (7, 9, 3)
    assert read_image(path, exif=False).shape == (9, 7, 3)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (b"gAMA", struct.pack(">I", 100000)),
        (b"sRGB", b"\x00"),
        (b"tRNS", struct.pack(">HHH", 1, 2, 3)),
        (b"bKGD", struct.pack(">HHH", 9, 9, 9)),
        (b"pHYs", struct.pack(">IIB", 1, 2, 1)),
    ],
)
def test_what_says_nothing_of_the_pixels_changes_none(tmp_path, kind, data):
    path, image = tmp_path / "a.png", pixels((9, 7), 3)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    path.write_bytes(with_chunk(file.getvalue(), kind, data))
    assert np.array_equal(fast_png.decode(whole(path)), image)


def test_damage_is_found_by_those_who_can_tell_of_it(tmp_path):
    path = tmp_path / "a.png"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(path)
    content = path.read_bytes()
    # Wrong pixels under a right checksum: the stream ends early.
    stream = zlib.compress(bytes(10 * 121))
    path.write_bytes(content[:33] + chunk(b"IDAT", stream) + chunk(b"IEND", b""))
    assert fast_png.decode(whole(path)) is None
    for number in range(200):
        damaged = bytearray(content)
        damaged[rng.integers(8, len(content))] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        with contextlib.suppress(UnreadableError):
            assert read_image(path).shape == (30, 40, 3), number


def test_camvid_is_what_opencv_reads(camvid):
    paths = sorted((camvid / "val").iterdir())[:10] + sorted((camvid / "valannot").iterdir())[:10]
    for path in paths:
        expected = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        expected = expected[..., ::-1] if expected.ndim == 3 else expected
        assert np.array_equal(fast_png.decode(whole(path)), expected)
