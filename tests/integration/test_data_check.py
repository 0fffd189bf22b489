"""`segframe data check` as a user runs it."""

import json

import cv2
import pytest

from segframe.data.camvid import write_fake


@pytest.fixture
def words(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGFRAME_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_fake(tmp_path / "set", num_train=20, num_val=4)
    return ["dataset=camvid", f"dataset.root={tmp_path / 'set'}", "dataset.crop_size=[32,32]"]


def test_what_fits(words, tmp_path, segframe):
    code, out, err = segframe("data", "check", *words, "workers=0")
    assert code == 0, out
    assert out.splitlines()[-1] == "all fits"
    assert "checking train: 100%" in err
    assert "sign symbol" in out
    assert "label map" in out  # CamVid's void, 11, is ignored
    report = json.loads((tmp_path / "data-check-camvid/report.json").read_text())
    assert report["splits"]["train"]["pairs"] == 20
    assert report["label_map"][11]["class"] == "ignored"
    assert sum(row["pixels"] for row in report["label_map"]) == 24 * 36 * 48
    assert sum(share["train"] for share in report["classes"]) == pytest.approx(1)
    assert (tmp_path / "data-check-camvid/histogram.png").stat().st_size > 10_000


def test_training_knows_what_was_checked(words, small, segframe, tmp_path):
    assert segframe("data", "check", *words, "workers=0")[0] == 0
    kept = [word for word in small if not word.startswith("dataset.")]
    code, _, err = segframe("train", *kept, *words, "trainer.max_steps=1", f"run.dir={tmp_path / 'run'}")
    assert code == 0, err
    assert "checked" not in err
    assert "checking" not in err


def test_class_weights_are_not_counted_again(words, small, segframe, tmp_path):
    kept = [word for word in small if not word.startswith("dataset.")]
    words = [*kept, *words, "trainer.max_steps=1", "loss.class_weights=median_frequency"]
    code, _, err = segframe("train", *words, f"run.dir={tmp_path / 'run'}")
    assert code == 0, err
    assert "checked 24 pairs" in err
    assert "counting" not in err


def test_equal_findings_are_told_once(words, tmp_path, segframe):
    for path in sorted((tmp_path / "set/trainannot").iterdir())[:7]:
        label = cv2.imread(str(path), 0)
        label[0, :5] = 30
        cv2.imwrite(str(path), label)
    code, out, _ = segframe("data", "check", *words, f"out={tmp_path / 'new/folder'}", "workers=2")
    assert code == 1
    assert out.count("error in") == 1
    assert "7 of 24 label maps hold labels that no class has: 30 (35 pixels); expected 0 to 11." in out
    assert "- and 2 more, all in report.json" in out
    (finding,) = json.loads((tmp_path / "new/folder/report.json").read_text())["findings"]
    assert finding["num_files"] == len(finding["files"]) == 7
    assert finding["values"] == {"30": 35}
    assert finding["line"] == "label_map: {..., 30: CLASS}"


def test_one_split_that_cannot_be_had_does_not_hide_the_other(words, tmp_path, segframe):
    (tmp_path / "set/val").rename(tmp_path / "set/vall")
    next((tmp_path / "set/train").iterdir()).write_bytes(b"")
    code, out, _ = segframe("data", "check", *words)
    assert code == 1
    assert "error in val: CamVid: the folder" in out
    assert "(0 bytes) is empty" in out
    assert out.splitlines()[-1] == "2 errors, 0 warnings"


def test_a_report_that_cannot_be_written_is_a_note(words, segframe):
    code, out, _ = segframe("data", "check", *words, "out=/dev/null/report")
    assert code == 0
    assert "note: the report was not written" in out


def test_generated_data(segframe, small, tmp_path):
    words = [word for word in small if word.startswith("dataset.")]
    code, out, _ = segframe("data", "check", *words, f"out={tmp_path / 'out'}")
    assert code == 0, out
    assert "label map" not in out  # ids are classes


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("workers=-1", "workers=-1 is not allowed; allowed: an integer >= 0"),
        ("workers=many", "workers=many is not allowed"),
        ("dataset=camvidd", "did you mean"),
        ("check=all", "check=all is not allowed; allowed: full, sample or none"),
    ],
)
def test_wrong_words(word, message, segframe):
    code, out, err = segframe("data", "check", word)
    assert code == 2
    assert message in err
    assert not out


def test_real_camvid_fits(camvid, segframe, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGFRAME_CACHE", str(tmp_path / "cache"))
    code, out, _ = segframe("data", "check", "dataset=camvid", f"dataset.root={camvid}", f"out={tmp_path / 'out'}")
    assert code == 0, out
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert [report["splits"][name]["pairs"] for name in ("train", "val")] == [367, 101]
    assert sum(row["pixels"] for row in report["label_map"]) == (367 + 101) * 360 * 480
