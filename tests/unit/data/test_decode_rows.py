"""Rows of a file are those of the whole picture, by whichever decoder, and what needs no decoding gets none."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from segframe.data import fast_png
from segframe.data.camvid import CamVid, write_fake
from segframe.data.decode import UnreadableError, read_image, read_labels
from segframe.data.decode_rows import read_image_rows, read_label_rows, top_of_png
from segframe.data.integrity import whole
from segframe.data.pairs import FilePairs

RNG = np.random.default_rng(0)
PICTURE = cv2.resize(RNG.integers(0, 256, (6, 8, 3), np.uint8), (40, 31), interpolation=cv2.INTER_CUBIC)
ROWS = (slice(0, 9), slice(9, 20), slice(20, 31), slice(0, 31), slice(30, 31), slice(0, 1))
TURN = 0x0112


def with_alpha():
    image = Image.fromarray(PICTURE)
    image.putalpha(Image.fromarray(PICTURE[..., 1]))
    return image


def turned(orientation):
    exif = Image.Exif()
    exif[TURN] = orientation
    return {"exif": exif}


COLOUR, GREY = Image.fromarray(PICTURE), Image.fromarray(PICTURE[..., 0])
IMAGES = {
    "colour.png": (COLOUR, {}),
    "grey.png": (GREY, {}),
    "alpha.png": (with_alpha(), {}),
    "palette.png": (COLOUR.quantize(7), {}),
    "bits.png": (GREY.convert("1"), {}),
    "deep.png": (Image.fromarray(PICTURE[..., 0].astype(np.uint16) << 8 | 77), {}),
    "turned.png": (COLOUR, turned(6)),
    "upside_down.png": (COLOUR, turned(3)),
    "photo.jpg": (COLOUR, {"quality": 90}),
    "turned.jpg": (COLOUR, turned(6)),
    "lossless.webp": (COLOUR, {"lossless": True}),
    "scan.tif": (COLOUR, {}),
    "old.bmp": (COLOUR, {}),
}
LABELS = [name for name in IMAGES if not name.endswith("jpg")]


@pytest.fixture(params=["kornia", "pillow"])
def decoder(request, monkeypatch):
    if request.param == "pillow":
        monkeypatch.setattr(fast_png, "decode_image_png_u8", None)  # as where the extra is not installed
    elif fast_png.decode_image_png_u8 is None:
        pytest.skip("kornia-rs is not installed")


def test_rows_are_those_of_the_whole(tmp_path, decoder, capfd):
    for name, (image, options) in IMAGES.items():
        path = tmp_path / name
        image.save(path, **options)
        for exif in (True, False):
            expected = read_image(path, exif)
            assert expected.std() > 10
            for rows in ROWS:
                assert np.array_equal(read_image_rows(path, rows, exif), expected[rows]), (name, rows)
        if name in LABELS:
            expected = read_labels(path)
            for rows in ROWS:
                found, size = read_label_rows(path, rows)
                assert (found.dtype, size) == (expected.dtype, expected.shape[:2])
                assert np.array_equal(found, expected[rows]), (name, rows)
    assert capfd.readouterr().err == ""


def test_nothing_behind_the_rows_is_decoded(tmp_path, decoder, capfd):
    """The stream holds the first half of the picture alone, and its checksum is right."""
    file = io.BytesIO()
    COLOUR.crop((0, 0, 40, 16)).save(file, "png")
    content = file.getvalue()
    path = tmp_path / "half.png"
    path.write_bytes(_told_to_have(content, 31))
    assert np.array_equal(read_image_rows(path, slice(4, 12)), PICTURE[4:12])
    labels, size = read_label_rows(path, slice(4, 12))
    assert np.array_equal(labels, PICTURE[4:12])
    assert size == (31, 40)
    assert capfd.readouterr().err == ""  # whoever goes on reading finds too little


def _told_to_have(content, rows):
    taller = io.BytesIO()
    Image.fromarray(np.zeros((rows, 40, 3), np.uint8)).save(taller, "png")
    return taller.getvalue()[:33] + content[33:]


def test_a_damaged_file_is_told_of(tmp_path, decoder):
    path = tmp_path / "a.png"
    COLOUR.save(path)
    content = bytearray(path.read_bytes())
    for number in (60, len(content) - 30):  # also behind the rows: checksums are of the whole
        damaged = content.copy()
        damaged[number] ^= 255
        path.write_bytes(damaged)
        with pytest.raises(UnreadableError, match=r"a\.png .*damaged"):
            read_image_rows(path, slice(0, 3))


def test_what_is_no_shorter_png_is_left_alone(tmp_path):
    path = tmp_path / "a.png"
    COLOUR.save(path)
    content = whole(path)
    assert top_of_png(content, 31) is None
    assert top_of_png(content, 40) is None
    assert top_of_png(content[:28] + b"\x01" + content[29:], 5) is None
    assert top_of_png(b"GIF89a" + bytes(40), 5) is None
    assert np.array_equal(np.array(Image.open(io.BytesIO(top_of_png(content, 5)))), PICTURE[:5])


def test_rows_of_pairs_are_those_of_whole_pairs(tmp_path):
    write_fake(tmp_path, size=(23, 31))
    dataset = CamVid(str(tmp_path), "train")
    image, mask = dataset[1]
    assert image.unique().numel() > 100
    assert mask.unique().numel() > 2
    for start, stop in ((0, 7), (7, 23), (0, 23)):
        assert np.array_equal(dataset.image_rows(1, start, stop), image[:, start:stop])
        assert np.array_equal(dataset.mask_rows(1, start, stop), mask[start:stop])


def test_unequal_sizes_are_found_by_rows_too(tmp_path):
    write_fake(tmp_path, size=(23, 31))
    dataset: FilePairs = CamVid(str(tmp_path), "train")
    _, mask = dataset.files(0)
    cv2.imwrite(str(mask), np.zeros((24, 31), np.uint8))
    with pytest.raises(ValueError, match=r"is 24x31 but its image .* 23x31"):
        dataset.mask_rows(0, 0, 5)
