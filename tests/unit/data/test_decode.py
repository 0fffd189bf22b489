"""Every format of images and label maps: what it gives, and what is refused with which words."""

import io
import os

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from segframe.data.decode import UnreadableError, image_size, read_image, read_labels

RNG = np.random.default_rng(0)
PICTURE = cv2.resize(RNG.integers(0, 256, (6, 8, 3), np.uint8), (40, 30), interpolation=cv2.INTER_CUBIC)
ORIENTATION = 0x0112


def grey(dtype=np.uint8):
    return PICTURE[..., 0] if dtype == np.uint8 else PICTURE[..., 0].astype(dtype) << 8 | 77


def alpha(mode):
    image = Image.fromarray(PICTURE).convert(mode)
    image.putalpha(Image.fromarray(PICTURE[..., 1]))
    return image


IMAGES = {
    "grey.png": Image.fromarray(grey()),
    "grey.jpg": Image.fromarray(grey()),
    "bits.png": Image.fromarray(PICTURE).convert("1"),
    "bits.tif": Image.fromarray(PICTURE).convert("1"),
    "grey_alpha.png": alpha("LA"),
    "grey_alpha.tif": alpha("LA"),
    "palette.png": Image.fromarray(PICTURE).convert("P"),
    "palette.gif": Image.fromarray(PICTURE).convert("P"),
    "palette.bmp": Image.fromarray(PICTURE).convert("P"),
    "rgb.png": Image.fromarray(PICTURE),
    "rgb.jpg": Image.fromarray(PICTURE),
    "rgb.tif": Image.fromarray(PICTURE),
    "rgb.bmp": Image.fromarray(PICTURE),
    "rgb.webp": Image.fromarray(PICTURE),
    "rgb.ppm": Image.fromarray(PICTURE),
    "rgba.png": alpha("RGBA"),
    "rgba.tif": alpha("RGBA"),
    "rgba.gif": alpha("RGBA"),
    "rgba.webp": alpha("RGBA"),
    "cmyk.jpg": Image.fromarray(PICTURE).convert("CMYK"),
    "cmyk.tif": Image.fromarray(PICTURE).convert("CMYK"),
    "ycbcr.tif": Image.fromarray(PICTURE).convert("YCbCr"),
    "no_ending_that_tells": Image.fromarray(PICTURE),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_are_what_pillow_makes_of_them(tmp_path, name, capfd):
    path = tmp_path / name
    IMAGES[name].save(path, **({"format": "PNG"} if "." not in name else {}))
    image = read_image(path)
    assert (image.shape, image.dtype) == ((30, 40, 3), np.uint8)
    with Image.open(path) as reference:
        assert np.array_equal(image, np.array(reference.convert("RGB")))
    assert image.std() > 20
    assert image_size(path) == (30, 40)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_of_16_bits_the_upper_8_are_taken(tmp_path, ending):
    cv2.imwrite(str(tmp_path / f"grey.{ending}"), grey(np.uint16))
    assert np.array_equal(read_image(tmp_path / f"grey.{ending}"), np.repeat(grey()[..., None], 3, 2))


@pytest.mark.parametrize("ending", ["png", "tif", "ppm"])
def test_of_16_bits_per_colour_the_upper_8_are_taken(tmp_path, ending):
    cv2.imwrite(str(tmp_path / f"rgb.{ending}"), PICTURE[..., ::-1].astype(np.uint16) << 8 | 77)
    assert np.array_equal(read_image(tmp_path / f"rgb.{ending}"), PICTURE)


def test_ink_is_inverted_as_adobe_writes_it(tmp_path):
    IMAGES["cmyk.jpg"].save(tmp_path / "a.jpg", quality=100, subsampling=0)
    assert b"Adobe" in (tmp_path / "a.jpg").read_bytes()
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - PICTURE).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["rgb.jpg", "rgb.png", "rgb.webp", "cmyk.jpg"])
def test_exif_orientation(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / name
    IMAGES[name].save(path, exif=exif)
    with Image.open(path) as image:
        turned, stored = np.array(ImageOps.exif_transpose(image).convert("RGB")), np.array(image.convert("RGB"))
    assert orientation == 1 or not np.array_equal(turned, stored)
    assert np.array_equal(read_image(path), turned)
    assert np.array_equal(read_image(path, exif=False), stored)
    assert image_size(path) == turned.shape[:2]
    assert image_size(path, exif=False) == stored.shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_as_it_says_image_and_labels_alike(tmp_path, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / "a.tif"
    Image.fromarray(PICTURE).save(path, exif=exif)
    with Image.open(path) as image:
        turned = np.array(ImageOps.exif_transpose(image))
    for use in (True, False):
        assert np.array_equal(read_image(path, exif=use), turned)
        assert image_size(path, exif=use) == turned.shape[:2]
    assert np.array_equal(read_labels(path), turned)


@pytest.mark.parametrize(("mode", "kind"), [("F", "float"), ("I", "integer")])
def test_32_bits_are_refused(tmp_path, mode, kind):
    Image.fromarray(grey()).convert(mode).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableError, match=rf"a\.tif holds 32-bit {kind} values; expected 8 or 16 bits"):
        read_image(tmp_path / "a.tif")


def ids(classes, dtype=np.uint8):
    return RNG.integers(0, classes, (30, 40)).astype(dtype)


def palette(labels, bits):
    image = Image.fromarray(labels, mode="P")
    image.putpalette(RNG.integers(0, 256, 3 * 2**bits, np.uint8).tobytes())
    return image


def low_bits_png(labels, bits):
    """A grey PNG of 1, 2 or 4 bits, which neither OpenCV nor Pillow writes."""
    import struct
    import zlib

    size = (8 // bits) * -(-labels.shape[1] * bits // 8)
    padded = np.pad(labels, ((0, 0), (0, size - labels.shape[1]))).reshape(len(labels), -1, 8 // bits)
    rows = (padded << np.arange(8 - bits, -1, -bits, dtype=np.uint8)).sum(-1).astype(np.uint8)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", labels.shape[1], labels.shape[0], bits, 0, 0, 0, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("ending", ["png", "tif", "bmp", "gif"])
def test_of_a_palette_the_indices_are_read(tmp_path, bits, ending):
    labels = ids(2**bits)
    options = {"png": {"bits": bits}, "gif": {"optimize": False}}
    palette(labels, bits).save(tmp_path / f"a.{ending}", **options.get(ending, {}))
    assert np.array_equal(read_labels(tmp_path / f"a.{ending}"), labels)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits_keeps_its_numbers(tmp_path, bits):
    labels = ids(2**bits)
    (tmp_path / "a.png").write_bytes(low_bits_png(labels, bits))
    assert np.array_equal(read_labels(tmp_path / "a.png"), labels)
    assert read_labels(tmp_path / "a.png").dtype == np.uint8


@pytest.mark.parametrize("ending", ["png", "tif", "bmp", "webp", "pgm"])
def test_grey_of_8_bits(tmp_path, ending):
    labels = ids(256)
    Image.fromarray(labels).save(tmp_path / f"a.{ending}", **({"lossless": True} if ending == "webp" else {}))
    found = read_labels(tmp_path / f"a.{ending}")
    assert np.array_equal(found[..., 0] if ending == "webp" else found, labels)


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_grey_of_16_bits(tmp_path, ending):
    labels = ids(40_000, np.uint16)
    cv2.imwrite(str(tmp_path / f"a.{ending}"), labels)
    found = read_labels(tmp_path / f"a.{ending}")
    assert np.array_equal(found, labels)
    assert found.dtype == np.uint16


def test_big_endian_and_32_bit_tiff_become_16_bits(tmp_path):
    labels = ids(40_000, np.uint16)
    for name, image in (
        ("b.tif", Image.frombytes("I;16B", (40, 30), labels.astype(">u2").tobytes())),
        ("i.tif", Image.fromarray(labels.astype(np.int32))),
    ):
        image.save(tmp_path / name)
        found = read_labels(tmp_path / name)
        assert (found.dtype, np.array_equal(found, labels)) == (np.uint16, True)


@pytest.mark.parametrize("ending", ["png", "tif", "bmp", "webp"])
def test_colours(tmp_path, ending):
    Image.fromarray(PICTURE).save(tmp_path / f"a.{ending}", **({"lossless": True} if ending == "webp" else {}))
    assert np.array_equal(read_labels(tmp_path / f"a.{ending}"), PICTURE)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_alpha_of_labels_is_dropped(tmp_path, ending):
    alpha("RGBA").save(tmp_path / f"rgba.{ending}")
    assert np.array_equal(read_labels(tmp_path / f"rgba.{ending}"), PICTURE)
    image = Image.fromarray(grey())
    image.putalpha(Image.fromarray(PICTURE[..., 1]))
    image.save(tmp_path / f"la.{ending}")
    assert np.array_equal(read_labels(tmp_path / f"la.{ending}"), grey())


def test_a_transparent_colour_adds_no_channel(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "rgb.png", transparency=(0, 0, 0))
    Image.fromarray(grey()).save(tmp_path / "grey.png", transparency=0)
    assert np.array_equal(read_labels(tmp_path / "rgb.png"), PICTURE)
    assert np.array_equal(read_labels(tmp_path / "grey.png"), grey())


def test_ids_of_16_bits_beside_alpha_are_not_cut(tmp_path):
    labels = ids(40_000, np.uint16)
    four = np.stack([labels] * 3 + [np.full_like(labels, 2**16 - 1)], 2)
    cv2.imwrite(str(tmp_path / "a.png"), four)
    with pytest.raises(
        UnreadableError, match=r"a\.png holds uint16 values of shape \(30, 40, 3\); expected a label map"
    ):
        read_labels(tmp_path / "a.png")


def jpeg_tiff(path):
    Image.fromarray(PICTURE).save(path, compression="jpeg")


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.jpg", lambda path: Image.fromarray(grey()).save(path), "is a JPEG file"),
        ("a.png", lambda path: Image.fromarray(grey()).save(path, format="JPEG"), "is a JPEG file"),
        ("a.webp", lambda path: Image.fromarray(PICTURE).save(path), "is a lossy WebP file"),
        ("a.webp", lambda path: alpha("RGBA").save(path), "is a lossy WebP file"),
        ("a.tif", jpeg_tiff, "is a JPEG-compressed TIFF file"),
        ("a.tif", lambda path: Image.fromarray(grey()).convert("F").save(path), "holds float32 values"),
        ("a.tif", lambda path: Image.fromarray(grey().astype(np.int32) - 300).save(path), "holds int32 values"),
    ],
)
def test_label_maps_that_cannot_hold_labels(tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises(UnreadableError, match=rf"{name} {message}"):
        read_labels(tmp_path / name)


def encoded(ending, **options):
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, format=ending, **options)
    return file.getvalue()


PNG, JPEG = encoded("PNG"), encoded("JPEG")


def changed(content, at, new):
    return content[:at] + new + content[at + len(new) :]


BROKEN = {
    "empty": (b"", r"0 bytes\) is empty"),
    "web page": (b"<!DOCTYPE html><html>404</html>", "is a web page"),
    "xml": (b"<?xml version='1.0'?><Error/>", "is a web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    "text": (b"hello", "is truncated or no image"),
    "png: 5 bytes": (PNG[:5], "truncated"),
    "png: signature": (PNG[:8], "truncated"),
    "png: half": (PNG[: len(PNG) // 2], "truncated"),
    "png: last chunk gone": (PNG[:-12], "truncated"),
    "png: last byte gone": (PNG[:-1], "truncated"),
    "png: middle gone": (PNG[: len(PNG) // 2] + PNG[-12:], "damaged|truncated"),
    "png: tail is zeros": (PNG[: len(PNG) // 2] + bytes(len(PNG) - len(PNG) // 2), "damaged|truncated"),
    "png: flipped bits": (changed(PNG, len(PNG) // 2, bytes([PNG[len(PNG) // 2] ^ 255])), "checksum .* IDAT"),
    "png: wrong checksum": (changed(PNG, len(PNG) - 16, bytes(4)), "checksum .* IDAT"),
    "png: wrong header": (changed(PNG, 16, b"\x00\x00\x01"), "checksum .* IHDR"),
    "png: other first chunk": (changed(PNG, 12, b"IHDX"), "truncated or no image"),
    "jpeg: 3 bytes": (JPEG[:3], "truncated"),
    "jpeg: header": (JPEG[: len(JPEG) // 4], "truncated"),
    "jpeg: half": (JPEG[: len(JPEG) // 2], "truncated"),
    "jpeg: end gone": (JPEG[:-2], "truncated"),
    "jpeg: tail is zeros": (JPEG[: len(JPEG) * 3 // 4] + bytes(5000), "truncated"),
    "jpeg: noise": (b"\xff\xd8\xff" + bytes(range(256)) * 4, "truncated"),
    "bmp: half": (encoded("BMP")[:1500], "truncated"),
    "tiff: half": (encoded("TIFF")[:1500], "truncated TIFF"),
    "tiff: packed": (encoded("TIFF", compression="tiff_lzw")[:-200], "truncated TIFF"),
    "webp: half": (encoded("WEBP", lossless=True)[:500], "truncated"),
    "gif: half": (encoded("GIF")[:900], "truncated"),
    "ppm: half": (encoded("PPM")[:900], "truncated"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named_and_stderr_stays_clean(tmp_path, kind, capfd):
    content, message = BROKEN[kind]
    path = tmp_path / "a.png"
    path.write_bytes(content)
    readers = [read_image] if kind.startswith("jpeg") else [read_image, read_labels]
    for read in readers:
        with pytest.raises(UnreadableError, match=rf"a\.png .*({message})") as error:
            read(path)
        assert str(path) in str(error.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("read", [read_image, read_labels, image_size])
def test_what_is_no_file(tmp_path, read):
    (tmp_path / "x.png").mkdir()
    with pytest.raises(UnreadableError, match=r"x\.png is a folder, not an image"):
        read(tmp_path / "x.png")
    with pytest.raises(FileNotFoundError, match=r"y\.png"):
        read(tmp_path / "y.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_must_not_be_read(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(UnreadableError, match=r"a\.png must not be read by this user"):
        read_image(tmp_path / "a.png")


def test_size_of_a_file_that_is_no_image(tmp_path):
    (tmp_path / "a.png").write_bytes(b"<html>404</html>")
    with pytest.raises(UnreadableError, match=r"a\.png .*web page"):
        image_size(tmp_path / "a.png")


def test_profiles_and_texts_in_a_png_write_no_warnings(tmp_path, capfd):
    Image.fromarray(PICTURE).save(tmp_path / "a.png", icc_profile=b"no profile at all" * 20)
    content = (tmp_path / "a.png").read_bytes()
    assert np.array_equal(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1], PICTURE)
    assert "libpng warning" in capfd.readouterr().err
    assert np.array_equal(read_image(tmp_path / "a.png"), PICTURE)
    assert capfd.readouterr().err == ""


def test_what_follows_the_end_of_a_file_does_not_matter(tmp_path):
    for name, content in (("a.png", PNG), ("a.jpg", JPEG)):
        (tmp_path / name).write_bytes(content)
        clean = read_image(tmp_path / name)
        (tmp_path / name).write_bytes(content + b"trailer of some camera" * 200)
        assert np.array_equal(read_image(tmp_path / name), clean)
