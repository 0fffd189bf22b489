"""Which files a folder or glob finds, and what their keys are."""

import os
import re

import pytest

from segframe.data.matching import Search, apart, likely_suffix


def tree(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def keys(root, place, suffix=None):
    return list(Search(root, place, suffix, "images").files())


TREE = (
    "a/images/1.jpg", "a/images/2.JPEG", "a/masks/1.png", "a/masks/2.png", "b/images/1.jpg", "b/masks/1.png",
    "b/images/notes.txt", "b/images/._1.jpg", ".trash/images/9.jpg", "x_left.png", "x_right.png",
)  # fmt: skip


@pytest.mark.parametrize(
    ("place", "suffix", "expected"),
    [
        ("a/images", None, ["1", "2"]),
        ("a/images/", None, ["1", "2"]),
        ("./a/../a/images", None, ["1", "2"]),
        ("*/images/*.jpg", None, ["a/1", "b/1"]),
        ("*/images/*", None, ["a/1", "a/2", "b/1"]),
        ("*/images", None, []),
        ("**/*.png", None, ["a/masks/1", "a/masks/2", "b/masks/1", "x_left", "x_right"]),
        ("b/**", None, ["images/1", "masks/1"]),
        ("**/masks/*", None, ["a/1", "a/2", "b/1"]),
        ("a/**/1.*", None, ["images", "masks"]),
        ("[ab]/images/?.jpg", None, ["a/1", "b/1"]),
        ("[!a]/images/*.jpg", None, ["b/1"]),
        ("x_*.png", None, ["left", "right"]),
        (".", "_left.png", ["x"]),
        ("**/*_left.png", None, ["x"]),
        ("*", "_left.png", ["x"]),
        ("*_left*", "_left.png", ["x"]),
        ("b/images/notes.*", ".txt", [""]),
        ("b/images/*.txt", None, ["notes"]),
    ],
)  # fmt: skip
def test_keys(tmp_path, place, suffix, expected):
    tree(tmp_path, *TREE)
    if not expected:
        with pytest.raises(FileNotFoundError):
            keys(tmp_path, place, suffix)
        return
    assert keys(tmp_path, place, suffix) == expected
    assert keys(tmp_path / "elsewhere", str(tmp_path / place), suffix) == expected


def test_files_are_sorted_by_path(tmp_path):
    names = ["a-1.png", "a.png", "a/2.png", "b.png"]
    tree(tmp_path, *names)
    found = list(Search(tmp_path, ".", None, "images").files().values())
    assert found == sorted(tmp_path / name for name in names)


def test_a_folder_whose_name_holds_a_wildcard(tmp_path):
    tree(tmp_path, "set [old]/1.png", "seto/1.png")
    assert list(Search(tmp_path, "set [old]", None, "images").files().values()) == [tmp_path / "set [old]/1.png"]


def test_links_are_followed_but_not_in_a_circle(tmp_path):
    tree(tmp_path, "real/1.png", "images/own/2.png")
    os.symlink(tmp_path / "real", tmp_path / "images/link")
    os.symlink(tmp_path / "real", tmp_path / "images/other")
    os.symlink(tmp_path, tmp_path / "images/up")
    assert keys(tmp_path, "images") == ["link/1", "other/1", "own/2"]


@pytest.mark.parametrize(
    ("place", "suffix", "parts"),
    [
        ("a/image", None, [r"images=a/image: expected a folder below dataset\.root", "Did you mean .*a/images"]),
        ("c/images", None, ["c/images does not exist", "a/, b/, "]),
        ("c/*.png", None, ["c does not exist"]),
        ("x_left.png", None, ["x_left.png is a file; give a folder"]),
        ("*/image/*.jpg", None, ["no image file in .* matches", "there are: a/images/1.jpg, a/images/2.JPEG"]),
        (
            "a/images",
            "_left.png",
            ["no file that ends with _left.png .image_suffix. in .*images or below; there are: 1.jpg, 2.JPEG"],
        ),
        ("empty", None, ["empty", "it holds: nothing"]),
    ],
)
def test_what_is_said_where_nothing_is_found(tmp_path, place, suffix, parts):
    tree(tmp_path, *TREE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError) as error:
        keys(tmp_path, place, suffix)
    assert [part for part in parts if not re.search(part, str(error.value))] == [], str(error.value)


def test_two_files_of_one_key_are_named(tmp_path):
    tree(tmp_path, "1.png", "1.jpg")
    with pytest.raises(
        ValueError, match=r"1\.(png|jpg) and .*1\.(png|jpg) have one key, 1, .*image_suffix=\.(png|jpg)"
    ):
        keys(tmp_path, ".")
    assert keys(tmp_path, ".", ".jpg") == ["1"]


def both(root, *suffixes):
    found = [
        Search(root, ".", suffix, kind).files() for suffix, kind in zip(suffixes, ("images", "masks"), strict=True)
    ]
    apart(*found, suffixes)
    return [list(files) for files in found]


def test_images_and_masks_in_one_folder(tmp_path):
    tree(tmp_path, "1.png", "1_mask.png", "2.png", "2_mask.png")
    assert both(tmp_path, None, "_mask.png") == [["1", "2"]] * 2
    assert both(tmp_path, ".png", "_mask.png") == [["1", "2"]] * 2
    assert both(tmp_path, "_mask.png", ".png") == [["1", "2"]] * 2
    with pytest.raises(ValueError, match=r"1\.png is found both as image and as mask"):
        both(tmp_path, None, None)


def test_a_suffix_is_suggested(tmp_path):
    tree(tmp_path, "i/1.jpg", "m/1_mask.png", "i2/1_left.jpg", "m2/1.png")
    files = {name: Search(tmp_path, name, None, "images").files() for name in ("i", "m", "i2", "m2")}
    assert "dataset.mask_suffix=_mask.png?" in likely_suffix(files["i"], files["m"])
    assert "dataset.image_suffix=_left.jpg?" in likely_suffix(files["i2"], files["m2"])
    assert likely_suffix({"a": tmp_path}, {"b": tmp_path}) == ""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may list everything")
def test_a_folder_that_must_not_be_listed_is_no_empty_one(tmp_path):
    tree(tmp_path, "images/a/1.png", "images/b/1.png")
    (tmp_path / "images/b").chmod(0)
    with pytest.raises(ValueError, match=r"images/b can't be listed: Permission denied"):
        keys(tmp_path, "images")
    (tmp_path / "images/b").chmod(0o755)
