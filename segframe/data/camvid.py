"""CamVid in the split and with the label maps of the SegNet paper."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segframe.contracts import IGNORE_INDEX

Pixels = NDArray[np.uint8]

_VOID = 11
_FOLDERS = ("train", "trainannot", "val", "valannot")
_TREE = """{root}/
    train/NAME.png       RGB images
    trainannot/NAME.png  one uint8 label per pixel, 0 to 11, same names
    val/NAME.png
    valannot/NAME.png"""


class CamVid:
    """Street scenes from a car: 367 training and 101 validation pairs of 360 x 480 pixels.

    Brostow, Fauqueur and Cipolla, "Semantic object classes in video", PRL 2009; 11 classes and split as
    in Badrinarayanan et al., "SegNet", TPAMI 2017, sec. 4. The files' label 11, void, is ignored.

    Args:
        root: Folder that holds ``train``, ``trainannot``, ``val`` and ``valannot``.
        split: Which pairs.

    Raises:
        FileNotFoundError: If the folder or one of the split's two folders is missing, or holds no PNG file.
        ValueError: If an image has no label map, or a label map no image.
    """

    classes = (
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "sign symbol",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
    )
    palette = (
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    )

    def __init__(self, root: str, split: Literal["train", "val"]) -> None:
        folder = Path(root).expanduser()
        self._images = _png_names(folder, split)
        labels = _png_names(folder, f"{split}annot")
        self._check_partners(folder, split, labels)
        self._image_folder, self._label_folder = folder / split, folder / f"{split}annot"
        self._to_class = np.full(256, IGNORE_INDEX, np.uint8)
        self._to_class[: len(self.classes)] = np.arange(len(self.classes))

    def __len__(self) -> int:
        """Returns the number of pairs."""
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Returns a uint8 image (3, H, W), RGB, and a uint8 mask (H, W).

        Raises:
            ValueError: If a file cannot be decoded, has another format than CamVid's, or holds a label
                outside 0 to 11; names the file.
        """
        name = self._images[index]
        image = _decode(self._image_folder / name, cv2.IMREAD_COLOR)
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
        label = _decode(self._label_folder / name, cv2.IMREAD_UNCHANGED)
        _check_label_map(self._label_folder / name, label, image.shape)
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(self._to_class[label])

    def name(self, index: int) -> str:
        """Returns the pair's file name."""
        return self._images[index]

    def _check_partners(self, folder: Path, split: str, labels: list[str]) -> None:
        for there, here, missing_from in (
            (self._images, labels, f"{split}annot"),
            (labels, self._images, split),
        ):
            if missing := sorted(set(there) - set(here)):
                raise ValueError(
                    f"{len(missing)} of {len(there)} files have no partner of the same name in "
                    f"{folder / missing_from}: {_some(missing)}. Add the missing files, or remove these."
                )


def _png_names(root: Path, folder: str) -> list[str]:
    path = root / folder
    if not path.is_dir():
        raise FileNotFoundError(f"CamVid: the folder {path} does not exist. {_layout(root)}")
    names = sorted(file.name for file in path.glob("*.png"))
    if not names:
        raise FileNotFoundError(f"CamVid: the folder {path} holds no PNG file ({_found(path)}). {_layout(root)}")
    return names


def _layout(root: Path) -> str:
    expected = _TREE.format(root=root)
    hint = f"Found in {root}: {_found(root)}." if root.is_dir() else _nearest(root)
    return f"Expected:\n{expected}\n{hint}\nSet dataset.root=... to the folder that holds {', '.join(_FOLDERS)}."


def _nearest(root: Path) -> str:
    there = next((parent for parent in root.absolute().parents if parent.is_dir()), Path("/"))
    return f"{root} does not exist; {there} does, and holds: {_found(there)}."


def _found(path: Path) -> str:
    entries = sorted(entry.name + "/" * entry.is_dir() for entry in path.iterdir())
    return _some(entries) if entries else "nothing"


def _some(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _decode(path: Path, flags: int) -> Pixels:
    # A PNG without its end decodes to a grey rest without an error, so its last chunk is looked for.
    content = path.read_bytes()
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    if pixels is None or b"IEND" not in content[-16:]:
        raise ValueError(f"{path} ({len(content)} bytes) is truncated or no PNG image; copy or download it again.")
    return pixels  # type: ignore[return-value]


def _check_label_map(path: Path, label: Pixels, image_shape: tuple[int, ...]) -> None:
    if label.ndim != 2 or label.dtype != np.uint8:
        raise ValueError(
            f"{path} has shape {label.shape} and type {label.dtype}; expected a grey PNG with one uint8 label per "
            "pixel, not a colour rendering of it. Use the label maps of the SegNet tutorial."
        )
    if label.shape != image_shape[:2]:
        raise ValueError(
            f"{path} is {label.shape[0]}x{label.shape[1]} but its image {image_shape[0]}x{image_shape[1]}; "
            "both must have one size. Replace the file that is wrong."
        )
    if label.max() > _VOID:
        values = sorted(int(value) for value in np.unique(label) if value > _VOID)
        raise ValueError(
            f"{path} holds the labels {_some([str(v) for v in values])}; expected 0 to 10 for the classes and "
            "11 for void. Use the label maps of the SegNet tutorial, which have 12 values."
        )


def write_fake(root: str | Path, num_train: int = 4, num_val: int = 2, size: tuple[int, int] = (36, 48)) -> None:
    """Writes a tiny copy of the data set: its folders, file names and encodings with random contents.

    Args:
        root: Folder to write into; made if it is missing.
        num_train: Training pairs.
        num_val: Validation pairs.
        size: Rows and columns of an image.
    """
    rng = np.random.default_rng(0)
    for split, sequence, count in (("train", "0001TP_00", num_train), ("val", "0016E5_0", num_val)):
        folders = [Path(root) / split, Path(root) / f"{split}annot"]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            name = f"{sequence}{6690 + 30 * number}.png"
            blocks = rng.integers(0, _VOID + 1, (3, 4), dtype=np.uint8)
            label = cv2.resize(blocks, size[::-1], interpolation=cv2.INTER_NEAREST)
            image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            cv2.imwrite(str(folders[0] / name), image)
            cv2.imwrite(str(folders[1] / name), label)
