"""``segframe data browse``: the sheet shows what training would see, and mistakes end in one message."""

import cv2
import numpy as np
import pytest
import torch

from segframe.data import camvid, folder
from segframe.figures import contact_sheet as drawing

SYNTHETIC = (
    "dataset.train.num_images=16",
    "dataset.val.num_images=4",
    "dataset.train.height=48",
    "dataset.train.width=48",
)


@pytest.fixture
def browse(segframe, tmp_path, monkeypatch):
    """Runs the verb in an empty folder; returns (exit code, stdout, stderr)."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return lambda *words: segframe("data", "browse", *words)


@pytest.fixture
def sheets(monkeypatch):
    """Collects what is put on the sheets, while they are drawn as usual."""
    found, original = [], drawing.contact_sheet

    def keep(samples, *arguments):
        found.append((list(samples), arguments))
        original(samples, *arguments)

    monkeypatch.setattr(drawing, "contact_sheet", keep)
    return found


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)


def test_writes_a_sheet_beside_and_says_where(browse, tmp_path):
    code, said, errors = browse(*SYNTHETIC, "num=3")
    assert (code, said, errors) == (0, "3 of 16 samples of train: browse-synthetic-train.png\n", "")
    assert read(tmp_path / "here/browse-synthetic-train.png").std() > 20


def test_shows_what_training_sees(browse, sheets, assembled, tmp_path):
    words = (*SYNTHETIC, "augment.batch.erase=1", "mix=cutmix", "augment.sample.rotate=20", "dataset.scale=[0.5,1.5]")
    assert browse(*words, "num=5", "epoch=2", "model=tiny")[0] == 0
    run = assembled(*words, "data.batch_size=5", "dataset.crop_size=[96,96]")
    loader = run.data.train_dataloader()
    loader._train_sampler.set_position(2)
    batch = loader.collate_fn([loader.dataset[key] for key in next(iter(loader._train_sampler))])
    images = run.task.preprocess(batch, epoch=2, dtype=torch.float32)
    mean, std = (torch.tensor(values)[:, None, None] for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    ((samples, _),) = sheets
    assert [sample.name for sample in samples] == batch.names
    for sample, image, mask in zip(samples, images, batch.mask, strict=True):
        pixels = ((image * std + mean) * 255).permute(1, 2, 0).numpy()
        assert np.abs(pixels.clip(0, 255) - sample.image).max() <= 0.51
        assert np.array_equal(mask, sample.mask)


def test_originals_of_another_epoch_come_in_another_order(browse, sheets):
    for words in (("epoch=0",), ("epoch=1",), ("epoch=1", "augment=default")):
        assert browse(*SYNTHETIC, "augment=none", *words, "num=8")[0] == 0
    first, second, varied = (samples for samples, _ in sheets)
    assert [sample.name for sample in first] != [sample.name for sample in second]
    assert [sample.name for sample in second] == [sample.name for sample in varied]
    assert not np.array_equal(second[0].image, varied[0].image)


def test_val_shows_whole_images_as_they_are(browse, sheets, tmp_path):
    camvid.write_fake(tmp_path / "data", num_val=5)
    code, said, _ = browse("dataset=camvid", f"dataset.root={tmp_path / 'data'}", "split=val", "num=3", "out=a/b.png")
    assert (code, said) == (0, "3 of 5 samples of val: a/b.png\n")
    ((samples, _),) = sheets
    dataset = camvid.CamVid(str(tmp_path / "data"), "val")
    for sample, index in zip(samples, (0, 2, 4), strict=True):
        assert np.array_equal(sample.image, dataset[index][0].permute(1, 2, 0))
        assert sample.name == dataset.name(index)
        assert sample.note == f"sample {index}, 36 x 48"
    assert (tmp_path / "here/a/b.png").is_file()


def test_folders_of_images_of_all_sizes(browse, sheets, tmp_path):
    folder.write_fake(tmp_path / "data")
    words = ("dataset=folder", f"dataset.root={tmp_path / 'data'}", "dataset.classes=[a,b,c]", "augment=none")
    assert browse(*words)[:2] == (0, "4 of 4 samples of train: browse-folder-train.png\n")
    assert len({sample.mask.shape for sample in sheets[0][0]}) == 2


def test_unpaired_files_are_told_and_the_others_shown(browse, tmp_path):
    camvid.write_fake(tmp_path / "data")
    next((tmp_path / "data/trainannot").iterdir()).unlink()
    code, said, errors = browse("dataset=camvid", f"dataset.root={tmp_path / 'data'}")
    assert (code, said) == (0, "3 of 3 samples of train: browse-camvid-train.png\n")
    assert "1 of 4 files have no partner" in errors
    assert "3 complete pairs" in errors


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["num=0"], "num=0 is not allowed; allowed: an integer of 1 to 200"),
        (["num=201"], "num=201 is not allowed"),
        (["num=many"], "num=many is not allowed"),
        (["split=tran"], "split=tran is not allowed; did you mean `train`?; allowed: train or val"),
        (["epoch=-1"], "epoch=-1 is not allowed; allowed: an integer >= 0"),
        (["out=sheet.jpg"], "out=sheet.jpg: the sheet is a PNG file"),
        (["dataset=camvd"], "did you mean `camvid`"),
        (["dataset=camvid"], "dataset.root is needed"),
        (["nmu=3"], "nmu: there is no such key"),
        (["synthetic"], "did you mean `dataset=synthetic`"),
    ],
)
def test_wrong_words_end_with_2_and_one_message(browse, words, said):
    code, out, errors = browse(*words)
    assert (code, out) == (2, "")
    assert said in errors
    assert errors.startswith("segframe: ")


def test_what_cannot_be_read_ends_with_1_and_one_message(browse, tmp_path):
    camvid.write_fake(tmp_path / "data")
    words = ("dataset=camvid", f"dataset.root={tmp_path / 'data'}")
    (tmp_path / "here/folder.png").mkdir()
    for file in (tmp_path / "data/train").iterdir():
        file.write_bytes(file.read_bytes()[:99])
    for more, said in (
        ((), "truncated"),
        (("dataset.root=/nowhere/at/all",), "/nowhere/at/all"),
        (("split=val", "out=folder.png"), "folder.png"),
    ):
        code, out, errors = browse(*words, *more)
        assert (code, out) == (1, "")
        assert said in errors
        assert "Traceback" not in errors


def test_a_sheet_that_cannot_be_written_names_the_remedy(browse, tmp_path):
    (tmp_path / "here/a.png").mkdir()
    code, said, errors = browse(*SYNTHETIC, "num=1", "out=a.png")
    assert (code, said) == (1, "")
    assert errors == "segframe: a.png can't be written: Is a directory; name another file with out=FILE.png\n"
