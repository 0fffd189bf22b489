import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from segframe.data.pairs import UnpairedError
from segframe.data.voc import VOC, write_fake


@pytest.fixture
def root(tmp_path):
    write_fake(tmp_path / "voc")
    return tmp_path / "voc"


@pytest.fixture
def folder(root):
    return root / "VOCdevkit/VOC2012"


def write_list(folder, text, name="train.txt"):
    (folder / "ImageSets/Segmentation" / name).write_bytes(text.encode())


def test_the_indices_of_the_palette_are_the_classes(root, folder):
    dataset = VOC(str(root), "train")
    assert [dataset.name(index) for index in range(4)] == [f"2007_0000{number}" for number in range(32, 36)]
    image, mask = dataset[1]
    file = folder / "SegmentationClass" / f"{dataset.name(1)}.png"
    with Image.open(file) as opened:
        assert opened.mode == "P"
        assert (mask.numpy() == np.array(opened)).all()
        palette = np.array(opened.getpalette()).reshape(-1, 3)
    assert 255 in mask
    assert palette[255].tolist() == [224, 224, 192]
    assert [tuple(colour) for colour in palette[:21].tolist()] == list(VOC.palette)
    bgr = cv2.imread(str(folder / "JPEGImages" / f"{dataset.name(1)}.jpg"))
    assert (image.permute(1, 2, 0).numpy() == bgr[..., ::-1]).all()
    assert dataset.size(0) != dataset.size(1)


def test_colours_are_the_development_kits():
    by_name = dict(zip(VOC.classes, VOC.palette, strict=True))
    assert by_name["background"] == (0, 0, 0)
    assert by_name["person"] == (192, 128, 128)
    assert by_name["bus"] == (0, 128, 128)
    assert by_name["tvmonitor"] == (0, 64, 128)


@pytest.mark.parametrize("below", [".", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_the_root_may_be_any_of_three_folders(root, below):
    counts = [len(VOC(str(root / below), split)) for split in ("train", "val", "trainval", "train_aug")]
    assert counts == [4, 2, 6, 8]


@pytest.mark.parametrize(
    "text",
    [
        "2007_000032\r\n2007_000034 \r\n\r\n",
        "\ufeff2007_000032\n\n2007_000034\n2007_000032",
        "/JPEGImages/2007_000032.jpg /SegmentationClass/2007_000032.png\nJPEGImages/2007_000034.jpg x\n",
    ],
)
def test_lists_of_every_make_are_read(root, folder, text):
    write_list(folder, text)
    dataset = VOC(str(root), "train")
    assert [dataset.name(index) for index in range(len(dataset))] == ["2007_000032", "2007_000034"]


@pytest.mark.parametrize("name", [None, "train_aug.txt", "trainaug.txt"])
def test_the_augmented_set_takes_its_label_maps_from_its_own_folder(root, folder, name):
    if name:
        write_list(folder, "2007_000033\n2007_000040\n", name)
    dataset = VOC(str(root), "train_aug")
    names = [dataset.name(index) for index in range(len(dataset))]
    held_out = {VOC(str(root), "val").name(index) for index in range(2)}
    assert names == ["2007_000033", "2007_000040"] if name else len(names) == 8
    assert not held_out & set(names)
    assert all(dataset.files(index)[1].parent.name == "SegmentationClassAug" for index in range(len(dataset)))
    assert 255 in dataset[0][1]


def test_without_the_augmented_label_maps_it_says_where_to_get_them(root, folder):
    shutil.rmtree(folder / "SegmentationClassAug")
    with pytest.raises(FileNotFoundError) as error:
        VOC(str(root), "train_aug")
    message = str(error.value)
    assert f"the folder {folder}/SegmentationClassAug does not exist" in message
    assert "segframe data prepare voc" in message
    assert "Set dataset.root" not in message


def test_names_without_files_are_listed_and_the_rest_is_kept(root, folder):
    write_list(folder, "2007_000032\n2007_000033\n2099_000001\n")
    (folder / "SegmentationClass/2007_000033.png").unlink()
    with pytest.raises(UnpairedError) as error:
        VOC(str(root), "train")
    images, masks = error.value.unpaired
    assert (images.files, masks.files) == (("2099_000001",), ("2007_000033", "2099_000001"))
    assert f"1 of 3 names in {folder}/ImageSets/Segmentation/train.txt have no partner NAME.jpg" in str(error.value)
    assert [error.value.dataset.name(index) for index in range(len(error.value.dataset))] == ["2007_000032"]


@pytest.mark.parametrize(("text", "message"), [(None, "does not exist"), ("\n \r\n", "holds no names")])
@pytest.mark.parametrize("split", ["val", "train_aug"])
def test_a_list_that_is_missing_or_empty_is_named(root, folder, text, message, split):
    write_list(folder, text or "", "val.txt")
    if text is None:
        (folder / "ImageSets/Segmentation/val.txt").unlink()
    with pytest.raises(FileNotFoundError, match=rf"the list .*val.txt {message}"):
        VOC(str(root), split)


def test_an_archive_that_was_not_unpacked_is_named(tmp_path):
    (tmp_path / "VOCtrainval_11-May-2012.tar").write_bytes(b"")
    with pytest.raises(FileNotFoundError) as error:
        VOC(str(tmp_path), "train")
    assert f"{tmp_path} holds archives: VOCtrainval_11-May-2012.tar. Unpack there" in str(error.value)


def test_the_nearest_folder_is_proposed(root, folder):
    with pytest.raises(FileNotFoundError, match=f"Did you mean dataset.root={folder}?"):
        VOC(str(root.parent), "train")


def test_a_colour_rendering_is_named(root, folder):
    file = folder / "SegmentationClass/2007_000032.png"
    with Image.open(file) as opened:
        colours = opened.convert("RGB")
    colours.save(file)
    with pytest.raises(ValueError, match=rf"{file} has shape .*a colour rendering"):
        VOC(str(root), "train")[0]
