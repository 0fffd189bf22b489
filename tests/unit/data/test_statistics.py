import pytest
import torch

from segframe.data.statistics import class_statistics


class Masks:
    classes = ("a", "b", "c")
    palette = ((0, 0, 0), (1, 1, 1), (2, 2, 2))

    def __init__(self, *masks):
        self.masks = masks

    def __len__(self):
        return len(self.masks)

    def __getitem__(self, index):
        mask = torch.tensor(self.masks[index], dtype=torch.uint8)
        return mask.expand(3, *mask.shape), mask

    def name(self, index):
        return f"mask-{index}"


def test_counts_pixels_and_the_labelled_pixels_around_them():
    statistics = class_statistics(Masks([[0, 0, 255, 1]], [[0, 0, 0, 0]], [[255, 255, 255, 255]]), progress=False)
    assert statistics.pixels == [6, 1, 0]
    assert statistics.image_pixels == [3 + 4, 3, 0]


def test_a_wrong_label_names_its_mask():
    with pytest.raises(ValueError, match=r"mask-1: the mask holds the labels \[7\]"):
        class_statistics(Masks([[0, 1]], [[0, 7]]), progress=False)
