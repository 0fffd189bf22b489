"""Data sets of image files with a label map each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segframe.data.decode import image_size, read_image, read_labels
from segframe.data.decode_rows import read_image_rows, read_label_rows
from segframe.data.labels import LabelMap
from segframe.data.layout import some

Pixels = NDArray[np.uint8]


class Pair(NamedTuple):
    """An image and its label map.

    Attributes:
        image: The image's file.
        mask: The label map's file.
        name: What errors and pictures call the pair: a path below the root.
    """

    image: Path
    mask: Path
    name: str


class Unpaired(NamedTuple):
    """Files of one kind without a partner.

    Attributes:
        files: Their names.
        total: Files of this kind, with and without a partner.
        folder: Where the partners were looked for.
        wanted: What a partner is called.
        kind: What the names are, in the plural.
    """

    files: tuple[str, ...]
    total: int
    folder: Path
    wanted: str = "of the same name"
    kind: str = "files"

    def __str__(self) -> str:
        """Returns the message."""
        return (
            f"{len(self.files)} of {self.total} {self.kind} have no partner {self.wanted} in {self.folder}: "
            f"{some(self.files)}. Add the missing files, or remove these."
        )


class UnpairedError(ValueError):
    """Images have no label map, or label maps no image.

    Attributes:
        unpaired: All of them.
        dataset: The data set of those pairs that are complete.
    """

    def __init__(self, unpaired: Sequence[Unpaired], dataset: FilePairs) -> None:
        self.unpaired, self.dataset = tuple(unpaired), dataset
        super().__init__(" ".join(map(str, unpaired)))


class FilePairs:
    """Pairs of files, decoded and mapped to class ids when they are asked for.

    Args:
        pairs: The files, in the order of the data set.
        label_map: What the values in the label maps mean.
        unpaired: Files that should have a partner and have none.
        exif: Whether images are turned as their EXIF orientation says.

    Attributes:
        label_map: As given.
        exif: As given.

    Raises:
        UnpairedError: If there are unpaired files; its ``dataset`` holds the others.
    """

    classes: Sequence[str]
    palette: Sequence[tuple[int, int, int]]

    def __init__(
        self, pairs: Sequence[Pair], label_map: LabelMap, unpaired: Sequence[Unpaired] = (), exif: bool = True
    ) -> None:
        self._pairs, self.label_map, self.exif = list(pairs), label_map, exif
        if unpaired := [group for group in unpaired if group.files]:
            raise UnpairedError(unpaired, self)

    def __len__(self) -> int:
        """Returns the number of pairs."""
        return len(self._pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Returns a uint8 image (3, H, W), RGB, and a uint8 mask (H, W).

        Raises:
            FileNotFoundError: If a file has gone.
            ValueError: If a file cannot be decoded, the two differ in size, or the label map holds values
                that have no class; names the file.
        """
        image = read_image(self._pairs[index].image, self.exif)
        mask = self.mask(index)
        self.check_size(index, image.shape[:2], mask.shape)
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(mask)

    def mask(self, index: int) -> Pixels:
        """Returns the class ids of a pair, (H, W), without reading its image."""
        path = self._pairs[index].mask
        return self.label_map(read_labels(path), path)

    def image_rows(self, index: int, start: int, stop: int) -> Tensor:
        """Returns rows of a pair's image, uint8 (3, stop - start, W); of PNG files those behind them aren't decoded."""
        rows = read_image_rows(self._pairs[index].image, slice(start, stop), self.exif)
        return torch.from_numpy(rows).permute(2, 0, 1)

    def mask_rows(self, index: int, start: int, stop: int) -> Tensor:
        """Returns rows of a pair's mask, uint8 (stop - start, W); values without a class are looked for in them alone.

        Raises:
            ValueError: As a whole pair does.
        """
        path = self._pairs[index].mask
        labels, size = read_label_rows(path, slice(start, stop))
        self.check_size(index, self.size(index), size)
        return torch.from_numpy(self.label_map(labels, path))

    def size(self, index: int) -> tuple[int, int]:
        """Returns the rows and columns of a pair's image from the file's header."""
        return image_size(self._pairs[index].image, self.exif)

    def name(self, index: int) -> str:
        """Returns the pair's name, a path below the root."""
        return self._pairs[index].name

    def files(self, index: int) -> tuple[Path, Path]:
        """Returns the files of a pair: image, label map."""
        return self._pairs[index][:2]

    def check_size(self, index: int, image: tuple[int, ...], mask: tuple[int, ...]) -> None:
        """Checks that an image and its label map have one size.

        Args:
            index: The pair.
            image: Rows and columns of the image.
            mask: Rows and columns of the label map.

        Raises:
            ValueError: If they differ.
        """
        if image == mask:
            return
        remedy = "both must have one size. Replace the file that is wrong."
        pair = self._pairs[index]
        if self.exif and image == mask[::-1] and image_size(pair.image, exif=False) == mask:
            remedy = (
                "the image's EXIF orientation turns it, and the label map was drawn on the image as it is stored. "
                "Turn the label map too, or read images as they are stored: dataset=folder has exif: false."
            )
        raise ValueError(
            f"{pair.mask} is {mask[0]}x{mask[1]} but its image {pair.image} {image[0]}x{image[1]}; {remedy}"
        )


def pair_by_name(
    images: Sequence[Path], masks: Sequence[Path], keep: str = "name"
) -> tuple[list[Pair], list[Unpaired]]:
    """Pairs files of two folders that have one file name, or one stem.

    Args:
        images: The images' files, sorted.
        masks: The label maps' files.
        keep: ``name`` compares whole names, ``stem`` leaves the endings out.
    """
    by_key = {getattr(mask, keep): mask for mask in masks}
    pairs = [Pair(path, by_key[getattr(path, keep)], path.name) for path in images if getattr(path, keep) in by_key]
    have_image = {getattr(path, keep) for path in images}
    alone_images = tuple(path.name for path in images if getattr(path, keep) not in by_key)
    alone_masks = tuple(path.name for path in masks if getattr(path, keep) not in have_image)
    groups = []
    if alone_images:
        groups.append(Unpaired(alone_images, len(images), masks[0].parent))
    if alone_masks:
        groups.append(Unpaired(alone_masks, len(masks), images[0].parent))
    return pairs, groups
