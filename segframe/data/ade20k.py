"""ADE20K as the scene parsing challenge of 2016 gives it out: 150 classes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from segframe.contracts import IGNORE_INDEX
from segframe.data.download import Download
from segframe.data.labels import LabelMap
from segframe.data.layout import Layout, is_folder
from segframe.data.pairs import FilePairs, pair_by_name

_INSIDE = "ADEChallengeData2016"
_FOLDERS = {"train": "training", "val": "validation"}
_LAYOUT = Layout(
    "ADE20K",
    """{root}/
    images/training/ADE_train_00000001.jpg
    images/validation/ADE_val_00000001.jpg
    annotations/training/ADE_train_00000001.png    grey images: 0 other, 1 to 150 the classes
    annotations/validation/ADE_val_00000001.png
  The root may also be the folder that holds ADEChallengeData2016. The full ADE20K with parts is another data set.
  `segframe data prepare ade20k root=DIR` downloads it.""",
    markers=tuple(f"{kind}/{folder}" for kind in ("images", "annotations") for folder in _FOLDERS.values()),
)
SOURCE = Download(
    url="http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
    algorithm="sha1",
    checksum="219e1696abb36c8ba3a3afe7fb2f4b4606a897c7",
    size=967_000_000,
    unpacked=1_400_000_000,
    holds=_INSIDE,
)

# Names: the first synonym of each line of the challenge's objectInfo150.
_CLASSES = """
wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person, earth, door,
table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug, field, armchair,
seat, fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion, base, box, column, signboard, chest of drawers,
counter, sand, sink, skyscraper, fireplace, refrigerator, grandstand, path, stairs, runway, case, pool table,
pillow, screen door, stairway, river, bridge, bookcase, blind, coffee table, toilet, flower, book, hill, bench,
countertop, stove, palm, kitchen island, computer, swivel chair, boat, bar, arcade machine, hovel, bus, towel,
light, truck, tower, chandelier, awning, streetlight, booth, television receiver, airplane, dirt track, apparel,
pole, land, bannister, escalator, ottoman, bottle, buffet, poster, stage, van, ship, fountain, conveyer belt,
canopy, washer, plaything, swimming pool, stool, barrel, basket, waterfall, tent, bag, minibike, cradle, oven, ball,
food, step, tank, trade name, microwave, pot, animal, bicycle, lake, dishwasher, screen, blanket, sculpture, hood,
sconce, vase, traffic light, tray, ashcan, fan, pier, crt screen, plate, monitor, bulletin board, shower, radiator,
glass, clock, flag"""
# Colours, RRGGBB: the challenge's, but for skyscraper, which has road's grey there and is a little bluer here.
_PALETTE = """
787878 b47878 06e6e6 503232 04c803 787850 8c8c8c cc05ff e6e6e6 04fa07 e005ff ebff07 96053d 787846 08ff33 ff0652
8fff8c ccff04 ff3307 cc4603 0066c8 3de6fa ff0633 0b66ff ff0747 ff09e0 0907e6 dcdcdc ff095c 7009ff 08ffd6 07ffe0
ffb806 0aff47 ff290a 07ffff e0ff08 6608ff ff3d06 ffc207 ff7a08 00ff14 ff0829 ff0599 0633ff eb0cff a09614 00a3ff
8c8cc8 fa0a0f 14ff00 1fff00 ff1f00 ffe000 99ff00 0000ff ff4700 00ebff 00adff 1f00ff 0bc8c8 ff5200 00fff5 003dff
00ff70 00ff85 ff0000 ffa300 ff6600 c2ff00 008fff 33ff00 0052ff 00ff29 00ffad 0a00ff adff00 00ff99 ff5c00 ff00ff
ff00f5 ff0066 ffad00 ff0014 ffb8b8 001fff 00ff3d 0047ff ff00cc 00ffc2 00ff52 000aff 0070ff 3300ff 00c2ff 007aff
00ffa3 ff9900 00ff0a ff7000 8fff00 5200ff a3ff00 ffeb00 08b8aa 8500ff 00ff5c b800ff ff001f 00b8ff 00d6ff ff0070
5cff00 00e0ff 70e0ff 46b8a0 a300ff 9900ff 47ff00 ff00a3 ffcc00 ff008f 00ffeb 85ff00 ff00eb f500ff ff007a fff500
0abed4 d6ff00 00ccff 1400ff ffff00 0099ff 0029ff 00ffcc 2900ff 29ff00 ad00ff 00f5ff 4700ff 7a00ff 00ffb8 005cff
b8ff00 0085ff ffd600 19c2c2 66ff00 5c00ff"""


def _colour(text: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(text)
    return red, green, blue


class ADE20K(FilePairs):
    """Scenes in- and outdoors: 20,210 training and 2,000 validation pairs of all sizes.

    Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017. The files' label 0, everything else, is
    ignored; 1 to 150 become 0 to 149.

    Args:
        root: Folder ``ADEChallengeData2016``, or the one that holds it.
        split: Which pairs.

    Raises:
        FileNotFoundError: If a folder is missing, or has no file of its kind.
        UnpairedError: If an image has no label map, or a label map no image.
    """

    classes = tuple(_CLASSES.strip().replace("\n", " ").split(", "))
    palette = tuple(map(_colour, _PALETTE.split()))

    def __init__(self, root: str, split: Literal["train", "val"]) -> None:
        given = Path(root).expanduser()
        folder = given / _INSIDE if is_folder(given / _INSIDE) else given
        images = _LAYOUT.files(folder, f"images/{_FOLDERS[split]}", "*.jpg", "JPEG file")
        masks = _LAYOUT.files(folder, f"annotations/{_FOLDERS[split]}", "*.png", "PNG file")
        pairs, unpaired = pair_by_name(images, masks, keep="stem")
        ids = {0: IGNORE_INDEX, **{label + 1: label for label in range(len(self.classes))}}
        super().__init__(pairs, LabelMap(len(self.classes), ids), unpaired)


def write_fake(root: str | Path, num_train: int = 4, num_val: int = 2, size: tuple[int, int] = (36, 48)) -> None:
    """Writes a tiny copy of the data set: its folders, file names and encodings, random contents, every class.

    Args:
        root: Folder to write ``ADEChallengeData2016`` into; made if it is missing.
        num_train: Training pairs.
        num_val: Validation pairs.
        size: Rows and columns of an image; every other one is turned.
    """
    rng = np.random.default_rng(0)
    for split, count in (("train", num_train), ("val", num_val)):
        folders = [Path(root) / _INSIDE / kind / _FOLDERS[split] for kind in ("images", "annotations")]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, count + 1):
            shape = size if number % 2 else size[::-1]
            name = f"ADE_{split}_{number:08d}"
            cv2.imwrite(str(folders[0] / f"{name}.jpg"), rng.integers(0, 256, (*shape, 3), np.uint8))
            ids = rng.permutation(np.arange(48 * (number - 1), 48 * number) % (len(ADE20K.classes) + 1))
            blocks = ids.reshape(6, 8).astype(np.uint8)
            label = cv2.resize(blocks, shape[::-1], interpolation=cv2.INTER_NEAREST)
            cv2.imwrite(str(folders[1] / f"{name}.png"), label)
