"""The table from what a file holds to class ids: nothing passes unlisted."""

from pathlib import Path

import numpy as np
import pytest

from segframe.data.labels import LabelMap, UnlistedLabelsError

PATH = Path("folder/a.png")
GREY = np.array([[0, 1], [2, 255]], np.uint8)


def test_identity():
    table = LabelMap(3)
    assert table.is_identity
    assert np.array_equal(table(GREY, PATH), GREY)
    assert np.array_equal(table(GREY.astype(np.uint16), PATH), GREY)
    assert np.array_equal(table(np.repeat(GREY[..., None], 3, 2), PATH), GREY)
    assert table.rows()[:2] == [("0", 0), ("1", 1)]


def test_ids_of_16_bits():
    table = LabelMap(2, {1000: 0, 26001: 1, 0: 255})
    assert np.array_equal(table(np.array([[0, 1000, 26001]], np.uint16), PATH), [[255, 0, 1]])
    with pytest.raises(UnlistedLabelsError, match=r"labels 999 \(2 pixels\); expected 0, 1000, 26001") as error:
        table(np.array([[999, 1000, 999]], np.uint16), PATH)
    assert error.value.counts == {999: 2}
    assert error.value.path == PATH


def test_colours():
    table = LabelMap(2, colours={(1, 2, 3): 0, (3, 2, 1): 1, (255, 255, 255): 255})
    labels = np.array([[[1, 2, 3], [3, 2, 1], [255, 255, 255]]], np.uint8)
    assert np.array_equal(table(labels, PATH), [[0, 1, 255]])
    labels[0, :2] = 9, 8, 7
    found = r"colours \(9, 8, 7\) \(2 pixels\); expected the 3 colours of label_map\."
    with pytest.raises(
        UnlistedLabelsError, match=rf"{found} Add them in label_map: {{\.\.\., '9,8,7': CLASS}}"
    ) as error:
        table(labels, PATH)
    assert error.value.counts == {(9, 8, 7): 2}


def test_files_of_another_form_are_named():
    colours = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    with pytest.raises(ValueError, match=r"folder/a\.png has shape \(2, 2, 3\).*not a colour rendering of it"):
        LabelMap(3)(colours, PATH)
    with pytest.raises(ValueError, match=r"folder/a\.png holds one id per pixel \(.*values 0, 1, 2, 255\)"):
        LabelMap(1, colours={(1, 2, 3): 0})(GREY, PATH)


def test_ids_and_colours_at_once():
    identity = LabelMap(2).ids
    table = LabelMap(2, identity, {(1, 2, 3): 0, (3, 2, 1): 1})
    assert np.array_equal(table(np.array([[0, 1, 255]], np.uint8), PATH), [[0, 1, 255]])
    assert np.array_equal(table(np.array([[[3, 2, 1], [1, 2, 3]]], np.uint8), PATH), [[1, 0]])
    with pytest.raises(UnlistedLabelsError, match=r"the palette, as there is no label_map\. List every colour"):
        table(np.array([[[3, 2, 1], [9, 2, 3]]], np.uint8), PATH)
    with pytest.raises(UnlistedLabelsError, match=r"written three times, say so: label_map: \{0: CLASS, \.\.\.\}"):
        table(np.zeros((2, 2, 3), np.uint8), PATH)
    with pytest.raises(UnlistedLabelsError, match="labels 7 "):
        table(np.full((2, 2), 7, np.uint8), PATH)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((255,), "255 classes: masks are 8 bits"),
        ((3, {0: 3}), r"0 is mapped to 3; expected a class, 0 to 2, or ignore"),
        ((3, None, {(0, 0, 0): 7}), r"\(0, 0, 0\) is mapped to 7"),
        ((3, {-1: 0}), "the source id -1 is out of range"),
        ((3, {2**16: 0}), "the source id 65536 is out of range"),
    ],
)
def test_wrong_tables(arguments, message):
    with pytest.raises(ValueError, match=message):
        LabelMap(*arguments)
