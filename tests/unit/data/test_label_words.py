"""A label_map as people write it."""

import re

import pytest

from segframe.data.label_words import label_map

CLASSES = ["road", "Car", "traffic light"]


def test_ids_spans_names_numbers_and_ignore():
    table = label_map(CLASSES, {0: "ignore", "1": "road", "7-9": 1, 26: "traffic light", 30: "Car", 255: 255}, None)
    assert table.ids == {0: 255, 1: 0, 7: 1, 8: 1, 9: 1, 26: 2, 30: 1, 255: 255}
    assert table.colours is None


@pytest.mark.parametrize("source", ["128,64,129", "#804081", "(128, 64, 129)", "[128,64,129]", " #804081"])
def test_colours(source):
    table = label_map(CLASSES, {source: "Car", "#ABCDEF": 0, "#abcdee": 2, "0,0,0": "ignore"}, None)
    assert table.colours == {(128, 64, 129): 1, (0xAB, 0xCD, 0xEF): 0, (0xAB, 0xCD, 0xEE): 2, (0, 0, 0): 255}


def test_without_words():
    assert label_map(CLASSES, None, None).is_identity
    both = label_map(CLASSES, None, [(1, 1, 1), (2, 2, 2), (3, 3, 3)])
    assert both.is_identity
    assert both.colours == {(1, 1, 1): 0, (2, 2, 2): 1, (3, 3, 3): 2}
    # A table of its own counts alone: the palette is for pictures then.
    assert label_map(CLASSES, {0: 0, 1: 1, 2: 2}, [(1, 1, 1), (2, 2, 2), (3, 3, 3)]).colours is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({0: "raod"}, "0 is mapped to raod, which is no class; did you mean road?"),
        ({0: "car"}, "did you mean Car?"),
        ({0: "Ignore"}, "did you mean ignore?"),
        ({0: "zebra"}, "which is no class; classes: road, Car, traffic light; or ignore."),
        ({0: 3}, "0 is mapped to 3; expected a class id of 0 to 2"),
        ({0: -1}, "expected a class id of 0 to 2"),
        ({"x": 0}, "the source 'x' can't be read; expected an id (7)"),
        ({True: 0}, "the source True can't be read"),
        ({-1: 0}, "the source -1 can't be read"),
        ({"9-7": 0}, "'9-7' is out of range"),
        ({70000: 0}, "70000 is out of range; expected ids of 0 to 65535"),
        ({"0,0,256": 0}, "'0,0,256' is out of range; expected values of 0 to 255"),
        ({"#12345": 0}, "'#12345' can't be read"),
        ({0: 0, 1: 1, "0-2": 2}, "id 0 is given twice; the second time as '0-2'"),
        ({"#010203": 0, "1,2,3": 1}, "colour 1,2,3 is given twice; the second time as '1,2,3'"),
        ({0: "road", "1,2,3": "Car"}, "lists ids (0) and colours (1,2,3)"),
        ({0: "road", 1: "ignore"}, "maps nothing to Car, traffic light; every class needs a source"),
        ({}, "maps nothing to road, Car, traffic light"),
    ],
)
def test_mistakes_are_named(words, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        label_map(CLASSES, words, None)
    assert str(error.value).startswith("dataset.label_map")
