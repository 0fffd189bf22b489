import re
import shutil

import cv2
import numpy as np
import pytest

from segframe.data.cityscapes import Cityscapes, write_fake
from segframe.data.facts import Split
from segframe.data.findings import pair_findings
from segframe.data.pairs import UnpairedError
from segframe.data.scan import scan

# (id, trainId, colour) of the official table, helpers/labels.py of cityscapesScripts; 255 is -1 in 8 bits.
OFFICIAL = """
0 255 000000 · 1 255 000000 · 2 255 000000 · 3 255 000000 · 4 255 000000 · 5 255 6f4a00 · 6 255 510051 · 7 0 804080
8 1 f423e8 · 9 255 faaaa0 · 10 255 e6968c · 11 2 464646 · 12 3 66669c · 13 4 be9999 · 14 255 b4a5b4 · 15 255 966464
16 255 96785a · 17 5 999999 · 18 255 999999 · 19 6 faaa1e · 20 7 dcdc00 · 21 8 6b8e23 · 22 9 98fb98 · 23 10 4682b4
24 11 dc143c · 25 12 ff0000 · 26 13 00008e · 27 14 000046 · 28 15 003c64 · 29 255 00005a · 30 255 00006e · 31 16 005064
32 17 0000e6 · 33 18 770b20 · 255 255 00008e"""
TABLE = [(int(i), int(t), tuple(bytes.fromhex(c))) for i, t, c in re.findall(r"(\d+) (\d+) ([0-9a-f]{6})", OFFICIAL)]


@pytest.fixture
def root(tmp_path):
    write_fake(tmp_path / "cityscapes")
    return tmp_path / "cityscapes"


def first(root, pattern):
    return sorted(root.glob(pattern))[0]


def test_ids_become_classes_by_the_official_table(root):
    file = first(root, "gtFine/train/*/*labelIds.png")
    size = cv2.imread(str(file), cv2.IMREAD_UNCHANGED).shape
    ids = np.array([row[0] for row in TABLE], np.uint8)
    pixels = np.resize(ids, size)
    cv2.imwrite(str(file), pixels)
    assert len(TABLE) == 35
    _, mask = Cityscapes(str(root), "train")[0]
    wanted = dict(row[:2] for row in TABLE)
    assert mask.tolist() == [[wanted[value] for value in row] for row in pixels.tolist()]
    for _, target, colour in TABLE:
        assert target == 255 or Cityscapes.palette[target] == colour


def test_images_labels_and_names_belong_together(root):
    dataset = Cityscapes(str(root), "train")
    assert [dataset.name(index) for index in range(4)] == [
        "aachen/aachen_000000_000019",
        "aachen/aachen_000002_000019",
        "ulm/ulm_000001_000019",
        "ulm/ulm_000003_000019",
    ]
    for index in range(4):
        image, mask = dataset.files(index)
        assert str(image) == f"{root}/leftImg8bit/train/{dataset.name(index)}_leftImg8bit.png"
        assert str(mask) == f"{root}/gtFine/train/{dataset.name(index)}_gtFine_labelIds.png"
    pixels, _ = dataset[2]
    bgr = cv2.imread(str(dataset.files(2)[0]))
    assert (pixels.permute(1, 2, 0).numpy() == bgr[..., ::-1]).all()
    assert len(Cityscapes(str(root), "val")) == 2


def test_what_lies_beside_the_files_is_left_out(root):
    wanted = [Cityscapes(str(root), "train").files(index) for index in range(4)]
    for path in [path for pair in wanted for path in pair]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")  # as macOS writes beside every file
    for name in ("license.txt", ".DS_Store", "gtFine/.DS_Store", "gtFine/train/.DS_Store", "gtFine/train/README"):
        (root / name).touch()
    mask = wanted[0][1]
    for ending in ("color.png", "instanceIds.png", "polygons.json"):
        shutil.copy(mask, str(mask).replace("labelIds.png", ending))
    dataset = Cityscapes(str(root), "train")
    assert [dataset.files(index) for index in range(len(dataset))] == wanted


def test_coarse_labels_have_more_images(root):
    assert [len(Cityscapes(str(root), split, "coarse")) for split in ("train", "val", "train_extra")] == [4, 2, 4]
    assert "gtCoarse/train_extra" in str(Cityscapes(str(root), "train_extra", "coarse").files(0)[1])
    with pytest.raises(ValueError, match=r"no fine labels for split train_extra; .*annotation=coarse"):
        Cityscapes(str(root), "train_extra")


def test_train_ids_are_read_where_there_are_no_ids(root):
    before = [Cityscapes(str(root), "train").mask(index) for index in range(4)]
    for index, path in enumerate(sorted(root.glob("gtFine/train/*/*labelIds.png"))):
        cv2.imwrite(str(path).replace("labelIds", "labelTrainIds"), 18 - np.minimum(before[index], 18))
    assert (Cityscapes(str(root), "train").mask(0) == before[0]).all()
    by_ids = Cityscapes(str(root), "train", labels="labelTrainIds")
    assert (by_ids.mask(0) == 18 - np.minimum(before[0], 18)).all()
    for path in root.glob("gtFine/train/*/*labelIds.png"):
        path.unlink()
    assert (Cityscapes(str(root), "train").mask(3) == by_ids.mask(3)).all()
    with pytest.raises(FileNotFoundError, match=r"gtFine/train holds no \*_gtFine_labelIds.png in a folder per city"):
        Cityscapes(str(root), "train", labels="labelIds")


def test_an_id_that_is_no_label_is_named(root):
    file = first(root, "gtFine/train/*/*labelIds.png")
    cv2.imwrite(str(file), np.full((32, 64), 40, np.uint8))
    with pytest.raises(ValueError, match=rf"{file.name} holds the labels 40 \(2048 pixels\); expected 0 to 33, 255"):
        Cityscapes(str(root), "train")[0]


def test_missing_partners_are_named_and_the_rest_is_kept(root):
    first(root, "leftImg8bit/train/*/*.png").unlink()
    first(root, "gtFine/train/ulm/*labelIds.png").unlink()
    with pytest.raises(UnpairedError) as error:
        Cityscapes(str(root), "train")
    assert [group.files for group in error.value.unpaired] == [
        ("ulm/ulm_000001_000019_leftImg8bit.png",),
        ("aachen/aachen_000000_000019_gtFine_labelIds.png",),
    ]
    assert f"1 of 3 files have no partner CITY/NAME_gtFine_labelIds.png in {root}/gtFine/train" in str(error.value)
    assert [error.value.dataset.name(index) for index in range(2)] == [
        "aachen/aachen_000002_000019",
        "ulm/ulm_000003_000019",
    ]


@pytest.mark.parametrize("given", ["leftImg8bit", "gtFine/train", "..", "../citiscapes"])
def test_a_root_beside_the_right_one_is_corrected(root, given):
    with pytest.raises(FileNotFoundError) as error:
        Cityscapes(str((root / given).resolve()), "train")
    message = str(error.value)
    assert f"Did you mean dataset.root={root}?" in message or f"Did you mean {root}?" in message
    assert "Set dataset.root=... to the folder that holds leftImg8bit, gtFine." in message


def test_what_was_not_unpacked_is_named(root):
    (root / "leftImg8bit_trainvaltest.zip").write_bytes(b"PK")
    shutil.rmtree(root / "leftImg8bit")
    with pytest.raises(FileNotFoundError) as error:
        Cityscapes(str(root), "train")
    for part in (
        f"the folder {root}/leftImg8bit/train does not exist",
        "leftImg8bit_trainvaltest.zip, 11 GB",
        f"{root} holds archives: leftImg8bit_trainvaltest.zip. Unpack there what is not unpacked yet.",
    ):
        assert part in str(error.value)


def test_zips_unpacked_into_folders_of_their_own_are_found(root):
    for name in ("leftImg8bit", "gtFine"):
        (root / f"{name}_trainvaltest").mkdir()
        (root / name).rename(root / f"{name}_trainvaltest" / name)
    with pytest.raises(FileNotFoundError) as error:
        Cityscapes(str(root), "train")
    folders = ", ".join(f"{root}/{name}_trainvaltest/{name}" for name in ("gtFine", "leftImg8bit"))
    assert f"Move into one folder: {folders}." in str(error.value)


def test_a_missing_split_does_not_blame_the_root(root):
    shutil.rmtree(root / "leftImg8bit/train_extra")
    with pytest.raises(FileNotFoundError) as error:
        Cityscapes(str(root), "train_extra", "coarse")
    assert "leftImg8bit_trainextra.zip, 44 GB" in str(error.value)
    assert "Set dataset.root" not in str(error.value)


def test_train_ids_under_the_names_of_ids_are_an_error(root):
    split = Split("train", Cityscapes(str(root), "train"))
    scan(split, range(4), images=False, progress=False)
    assert not [finding for finding in pair_findings([split]) if finding.severity == "error"]
    spoilt = split.dataset.files(1)[1]
    label = cv2.imread(str(spoilt), cv2.IMREAD_UNCHANGED)
    label[:] = 18
    label[:4], label[4:8] = 0, 255
    cv2.imwrite(str(spoilt), label)
    scan(split, range(4), images=False, progress=False)
    (error,) = [finding for finding in pair_findings([split]) if finding.severity == "error"]
    assert error.files == [str(spoilt)]
    assert "1 of 4 label maps hold 255 and nothing above 18" in error.what
    assert "labelTrainIds" in error.cause
