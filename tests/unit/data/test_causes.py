import pytest
import yaml

from segframe.data.cause_rules import Values, map_line
from segframe.data.causes import explain, likely_cause, silent_cause, spans
from segframe.data.label_words import label_map
from segframe.data.voc import VOC

NAMES = ("sky", "road", "car", "tree")
NINETEEN = tuple(f"c{label}" for label in range(19))


def even(*values):
    return dict.fromkeys(values, 1000)


CAUSES = {
    "labels from 1": (even(1, 2, 3, 4), NAMES, "count from 1", {1: 0, 2: 1, 3: 2, 4: 3}),
    "void 0 and labels from 1": (even(0, 1, 2, 3, 4), NAMES, "one of them is void", {0: 255, 1: 0, 4: 3}),
    "a class without a name": (even(0, 1, 2, 3, 4, 255), NAMES, "one name too few", {0: 255, 4: 3, 255: 255}),
    "void as another number": (even(0, 1, 2, 3, 250), NAMES, "250 is the only label beyond", {3: 3, 250: 255}),
    "a 16-bit void": (even(0, 1, 2, 3, 65535), NAMES, "65535 is the only label beyond", {65535: 255}),
    "multiplied": (even(0, 64, 128, 192), NAMES, "multiplied by 64", {64: 1, 192: 3}),
    "stretched to 255": (even(0, 85, 170, 255), NAMES, "multiplied by 85", {85: 1, 255: 3}),
    "stretched, cut to integers": (even(0, 63, 127, 191, 255), (*NAMES, "x"), "multiplied by 63.75", {63: 1, 255: 4}),
    "a class that no file holds keeps its source": (even(0, 64, 192), NAMES, "multiplied by 64", {128: 2}),
    "16 bits": (even(0, 257, 771), NAMES, "multiples of 257", {514: 2, 771: 3}),
    "labelIds": (even(0, 7, 8, 11, 23, 26), NINETEEN, "labelIds", {0: 255, 7: 0, 33: 18}),
    "two classes": (even(0, 128), NAMES[:2], "multiplied by 128", {0: 0, 128: 1}),
}


@pytest.mark.parametrize("name", CAUSES)
def test_the_cause_and_a_line_that_the_folder_data_set_takes(name):
    counts, names, what, targets = CAUSES[name]
    cause = explain(Values(counts, len(names), names))
    assert what in cause.what
    table = label_map(names, yaml.safe_load(cause.line)["label_map"], None)
    assert table.ids.items() >= targets.items()
    assert table.ids.keys() >= counts.keys()


WITHOUT_LINE = {
    "interpolation": ({0: 9000, 3: 4000, **dict.fromkeys(range(20, 240, 7), 20)}, NAMES, "nearest neighbour"),
    "JPEG of binary masks": ({0: 9000, 255: 4000, **dict.fromkeys((1, 2, 3, 252, 253, 254), 20)}, NAMES[:2], "loss"),
    "instanceIds": (even(7, 23, 26001, 24002), NINETEEN, "instanceIds"),
    "depth": (even(*range(0, 4000, 2)), NAMES, "depth"),
    "grey of VOC's colours": (even(*[round(0.299 * r + 0.587 * g + 0.114 * b) for r, g, b in VOC.palette]), NINETEEN,
                              "brightness of PASCAL VOC's"),
}  # fmt: skip


@pytest.mark.parametrize("name", WITHOUT_LINE)
def test_what_no_label_map_mends(name):
    counts, names, what = WITHOUT_LINE[name]
    cause = explain(Values(counts, len(names), names))
    assert what in cause.what
    assert not cause.line


def test_the_brightness_of_the_own_palette():
    palette = ((250, 0, 0), (0, 250, 0), (0, 0, 250), (9, 9, 9))
    cause = explain(Values(even(75, 147, 28, 9), 4, NAMES, palette))
    assert "brightness of this data set's colours" in cause.what


def test_more_classes_and_gaps_leave_the_meaning_to_the_user():
    assert explain(Values(even(*range(7)), 4, NAMES)).line == "label_map: {..., 4: CLASS, ..., 6: CLASS}"
    cause = explain(Values(even(0, 17, 90, 200, 133), 4, NAMES))
    assert "scattered over 0 to 200" in cause.what
    assert "0: CLASS, 17: CLASS" in cause.line


def test_what_fits_nothing_is_described():
    cause = explain(Values(even(*range(0, 5), 6, 7, 8), 4, NAMES))
    assert "The values are 0 to 4, 6 to 8; they may be" in cause.what


def test_only_rules_for_any_table_are_asked_where_there_is_one():
    cause = explain(Values(even(0, 11, 250), 11, listed=range(12)))
    assert "Correct the files, or add to label_map" in cause.what
    assert cause.line == "label_map: {..., 250: CLASS}"
    assert "such as depth" in explain(Values(even(*range(3000)), 11, listed=range(12))).what


def test_silent_causes():
    binary = silent_cause(Values(even(0, 255), 2, ("no", "crack")))
    assert binary is not None
    assert binary.line == 'label_map: {0: "no", 255: crack}'  # in YAML a plain no is false
    assert "3 classes are named" in silent_cause(Values(even(0, 255), 3)).what
    for counts in (even(0), even(255), even(0, 1), even(0, 1, 255)):
        assert silent_cause(Values(counts, 2)) is None


def test_an_error_of_one_file_stays_short():
    assert "segframe data check" in likely_cause(even(*range(1, 151)), 150, True)
    assert "label_map: {0: 0, 1: 1, 250: ignore}" in likely_cause(even(0, 1, 250), 2, True)
    assert "Add them to label_map" in likely_cause(even(0, 1, 250), 2, False)


def test_names_that_yaml_would_misread_are_quoted():
    names = ("No", "a: b", "traffic light", "it's", "7", "ignored", "ö, ä")
    line = map_line(dict(enumerate(range(7))), names)
    assert list(yaml.safe_load(line)["label_map"].values()) == list(names)


def test_spans_of_many_are_cut():
    assert spans([3]) == "3"
    assert spans(list(range(0, 60, 2))).endswith("18, ... 58")
