import numpy as np
import pytest

from segframe.data.check import Use, check, tally
from segframe.data.facts import PairFacts, Split
from segframe.data.findings import Finding

USE = Use((32, 32), 4, 1)


class Three:
    classes = ("a", "b", "c")
    palette = ((0, 0, 0), (255, 0, 0), (0, 255, 0))

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length


def pair(name, counts=(4, 4, 4), **more):
    defaults = {"image_size": (40, 40), "digest": name.encode(), "label_digest": b"", "ignored": 0}
    values = {label: count for label, count in enumerate(counts) if count}
    facts = PairFacts(f"{name}-mask", name, counts=np.array(counts), values=values)
    for key, value in (defaults | more).items():
        setattr(facts, key, value)
    return facts


def split(name, *pairs):
    return Split(name, Three(len(pairs)), pairs=list(pairs))


def said(*splits, use=USE):
    return [(finding.severity, finding.split, finding.what) for finding in check(splits, use)]


def test_all_fits():
    assert said(split("train", pair("x")), split("val", pair("y"))) == []
    assert tally([]) == "all fits"


def test_the_last_line_counts():
    findings = [Finding(severity, "", "", "") for severity in ("error", "warning", "warning", "note")]
    assert tally(findings) == "1 error, 2 warnings"
    assert tally(findings[3:]) == "all fits"


@pytest.mark.parametrize(
    ("train", "val", "severity", "what"),
    [
        ((4, 4, 0), (4, 4, 4), "error", "1 of 3 classes occur never in train but in val"),
        ((4, 4, 0), (4, 4, 0), "warning", "1 of 3 classes occur in no label map: c."),
        ((4, 4, 4), (4, 4, 0), "note", "1 of 3 classes occur never in val"),
        ((4, 0, 0), (4, 4, 4), "error", "a is the only class that occurs"),
    ],
)
def test_classes_that_never_occur(train, val, severity, what):
    (found,) = said(split("train", pair("x", train)), split("val", pair("y", val)))
    assert found[0] == severity
    assert found[2].startswith(what)


def test_copies_across_splits_are_worse_than_within():
    found = said(
        split("train", pair("x", digest=b"1"), pair("y", digest=b"1", label_digest=b"other")),
        split("val", pair("z", digest=b"1")),
    )
    assert found == [
        (
            "error",
            "train, val",
            "1 image is in train and in val alike, by content; the score on val is too good for them.",
        )
    ]
    found = said(split("train", pair("x", digest=b"1"), pair("y", digest=b"1", label_digest=b"other")))
    assert [f for f in found if f[0] == "warning"] == [
        ("warning", "train", "1 image is there more than once, 1 of them with different label maps.")
    ]


@pytest.mark.parametrize(
    ("use", "name", "is_error"),
    [
        (Use((32, 32), 4, 1), "train", False),
        (Use(None, 4, 1), "train", True),
        (Use(None, 1, 1), "train", False),
        (Use((32, 32), 4, 1), "val", False),
        (Use((32, 32), 4, 2), "val", True),
    ],
)
def test_sizes_that_make_no_batch(use, name, is_error):
    found = said(split(name, pair("x"), pair("y", image_size=(50, 60))), use=use)
    assert any(severity == "error" and "cannot stand in one batch" in what for severity, _, what in found) == is_error
    assert any("2 sizes, from 40x40 to 50x60" in what for _, _, what in found)


NOTES = {
    "smaller than the crop": (
        pair("x", image_size=(40, 31 + 10)),
        Use((64, 32), 4, 1),
        "smaller than the crop of 64x32",
    ),
    "tiny": (pair("x", image_size=(8, 60)), Use((8, 8), 4, 1), "side of less than 32"),
    "huge": (pair("x", image_size=(8000, 6000)), USE, "more than 40 million"),
    "mostly ignored": (pair("x", (1, 1, 1), ignored=997), USE, "more than 99% of the pixels are ignored"),
}


@pytest.mark.parametrize("name", NOTES)
def test_notes(name):
    odd, use, what = NOTES[name]
    found = said(split("train", odd), use=use)
    assert ("note", "train") in [f[:2] for f in found if what in f[2]]
    assert not [f for f in found if f[0] == "error"]


def test_grey_among_colour_and_dark_images():
    found = said(split("train", pair("x", is_grey=True), pair("y", brightest=4095), pair("z", brightest=4096)))
    assert ("note", "train", "1 of 3 images are grey, the others in colour.") in found
    assert [f[2][:45] for f in found if f[0] == "warning"] == ["1 image has 16 bits and no value above 4095, "]


def test_a_split_that_is_not_there_does_not_hide_the_other():
    found = said(
        Split("train", error=FileNotFoundError("no folder x")), split("val", pair("x"), pair("y", digest=b"x"))
    )
    assert found[0] == ("error", "train", "no folder x")
    assert found[1][:2] == ("warning", "val")


def test_what_two_splits_lack_alike_is_told_once():
    both = [Split(name, error=ValueError("there is no root")) for name in ("train", "val")]
    assert said(*both) == [("error", "train, val", "there is no root")]
    trees = [
        Split(name, error=ValueError(f"no folder {name}. Expected:\na tree\nof lines")) for name in ("train", "val")
    ]
    assert said(*trees) == [
        ("error", "train", "no folder train. Expected:\na tree\nof lines"),
        ("error", "val", "no folder val. What was expected stands above."),
    ]
    others = [Split(name, error=ValueError(f"no folder {name}")) for name in ("train", "val")]
    assert [what for _, _, what in said(*others)] == ["no folder train", "no folder val"]
