"""CamVid itself: set SEGFRAME_CAMVID to the folder that holds train/, trainannot/, val/ and valannot/."""

import os

import numpy as np
import pytest
import torch

from segframe.data.augment import Augment
from segframe.data.camvid import CamVid
from segframe.data.statistics import ClassStatistics, count

ROOT = os.environ.get("SEGFRAME_CAMVID")

pytestmark = pytest.mark.skipif(ROOT is None, reason="SEGFRAME_CAMVID names no folder with the CamVid files")


@pytest.mark.parametrize(("split", "count"), [("train", 367), ("val", 101)])
def test_size_and_labels(split, count):
    dataset = CamVid(ROOT, split)
    assert len(dataset) == count
    image, mask = dataset[count // 2]
    assert image.shape == (3, 360, 480)
    assert image.dtype == mask.dtype == torch.uint8
    labels = mask.unique().tolist()
    assert set(labels) <= {*range(11), 255}
    assert len(labels) > 6


def test_roads_are_at_the_bottom_and_the_sky_is_bright():
    dataset = CamVid(ROOT, "val")
    pairs = [dataset[index] for index in range(0, 101, 10)]
    road = torch.stack([mask == dataset.classes.index("road") for _, mask in pairs])
    sky = torch.stack([mask == dataset.classes.index("sky") for _, mask in pairs])
    assert road[:, 180:].sum() > 20 * road[:, :180].sum()
    assert sky[:, :180].sum() > 20 * sky[:, 180:].sum()
    brightness = torch.stack([image.float().mean(0) for image, _ in pairs])
    assert brightness[sky].mean() > brightness[road].mean() + 30


def test_every_class_occurs():
    statistics = ClassStatistics.of(count(CamVid(ROOT, "val"), progress=False))
    assert min(statistics.pixels) > 0
    assert max(statistics.image_pixels) <= 101 * 360 * 480
    assert CamVid.classes[int(np.argmax(statistics.pixels))] in ("road", "building")
    assert CamVid.classes[int(np.argmin(statistics.pixels))] in ("pole", "sign symbol", "pedestrian", "bicyclist")


def test_augmentation_keeps_the_labels():
    dataset = CamVid(ROOT, "train")
    image, mask = dataset[0]
    augment = Augment((96, 128), max_class_share=0.75)
    pixels, labels = augment(image.permute(1, 2, 0).numpy(), mask.numpy(), 0, 0)
    assert pixels.shape == (96, 128, 3)
    assert set(np.unique(labels)) <= set(np.unique(mask))
