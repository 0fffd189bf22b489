"""Lists of a split's pairs, as people write them."""

import re

import pytest

from segframe.data.split_list import listed_pairs


@pytest.fixture
def files(tmp_path):
    """Images and label maps by key, as a search finds them; nothing is read."""
    keys = ["a/1", "a/2", "b/1", "c/my photo 3"]
    images = {key: tmp_path / f"images/{key}_rgb.png" for key in keys}
    return images, {key: tmp_path / f"masks/{key}.png" for key in keys}, tmp_path


def read(files, text, encoding="utf-8"):
    (files[2] / "list.txt").write_bytes(text.encode(encoding))
    return listed_pairs(files[2] / "list.txt", *files)


@pytest.mark.parametrize(
    "entry",
    ["a/2", "2", "2_rgb.png", "2_rgb", "a/2_rgb.png", "images/a/2_rgb.png", "images/a/2_rgb", "/images/a/2_rgb.png",
     "./images/a/2_rgb.png", "{root}/images/a/2_rgb.png"],
)  # fmt: skip
def test_ways_to_name_an_image(files, entry):
    assert read(files, entry.format(root=files[2])) == [("a/2", "a/2")]


def test_comments_blank_lines_windows_ends_and_marks_do_not_matter(files):
    text = "\ufeff# train\r\n\r\n  a/1  \r\nb/1 # the good one\r\n#a/2\r\nmy photo 3\r\n"
    assert [image for image, _ in read(files, text)] == ["a/1", "b/1", "c/my photo 3"]


@pytest.mark.parametrize(
    "line",
    ["images/a/1_rgb.png masks/b/1.png", "a/1\tb/1", "a/1,b/1", "/images/a/1_rgb.png , /masks/b/1.png", "a/1  b/1"],
)
def test_two_columns(files, line):
    assert read(files, line) == [("a/1", "b/1")]


def test_two_columns_with_blanks_in_names(files):
    assert read(files, "images/c/my photo 3_rgb.png masks/c/my photo 3.png") == [("c/my photo 3",) * 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a/1\na/7\nx\ny\nz\nu\nv", r"6 of 7 entries name no image; an image of this split is called a/1 \(.*\)"
         r"\. They are: a/7, x, y, z, u and 1 more"),
        ("a/1\n1", r"1 of 2 entries name more than one image; write more .*They are: 1 \(a/1, b/1\)"),
        ("a/1\nb/1\nimages/a/1_rgb.png", r"1 of 3 entries name an image that an earlier entry names.*images/a/1_rgb"),
        ("a/1 nothing.png", "1 of 1 entries name no image"),
        ("# nothing\n\n", "lists nothing"),
    ],
)  # fmt: skip
def test_wrong_entries_are_named(files, text, message):
    with pytest.raises(ValueError, match=rf"list\.txt.*{message}"):
        read(files, text)


def test_what_is_no_list(files):
    with pytest.raises(ValueError, match=r"no text file of UTF-8"):
        read(files, "ä\u00ff", encoding="latin-1")
    with pytest.raises(ValueError, match="no text file"):
        listed_pairs(files[2], *files)
    with pytest.raises(FileNotFoundError, match=re.escape(f"{files[2]}/lst.txt does not exist")):
        listed_pairs(files[2] / "lst.txt", *files)
