"""Which sizes a net is tried with before rows are split."""

from types import SimpleNamespace

import pytest
import torch

from segframe.contracts import SegmentationOutput
from segframe.inference import Inference
from segframe.parallel.spatial import _sizes


class Files:
    """A data set of files of several sizes."""

    def __init__(self, *sizes):
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def files(self, index):
        return ()

    def mask(self, index):
        raise AssertionError("only sizes are asked for")

    def size(self, index):
        return self.sizes[index]


TRAIN, VAL = Files((70, 8), (60, 9)), Files((50, 60), (40, 90), (40, 20), (45, 5))
WHOLE = Inference()


def data_of(crop, val, evaluated, train=TRAIN, num_train=2):
    return SimpleNamespace(
        augment=SimpleNamespace(crop_size=crop),
        train=train,
        val=val,
        num_train=num_train,
        num_evaluated=lambda: evaluated,
    )


@pytest.mark.parametrize(
    ("crop", "evaluated", "expected"),
    [
        ([32, 48], 4, [(32, 48), (50, 60), (40, 20)]),
        ([32, 48], 2, [(32, 48), (50, 60), (40, 90)]),
        ([32, 48], 1, [(32, 48), (50, 60)]),
        (None, 4, [(70, 8), (60, 9), (50, 60), (40, 20)]),
        ([32, 48], 0, [(32, 48)]),
    ],
)
def test_the_first_image_and_the_one_of_fewest_rows_are_tried(crop, evaluated, expected):
    assert _sizes(data_of(crop, VAL, evaluated), WHOLE) == expected


def test_images_that_are_not_trained_on_are_not_tried():
    assert _sizes(data_of(None, VAL, 0, num_train=1), WHOLE) == [(70, 8)]


def test_what_is_made_of_an_image_is_tried():
    val = [(torch.zeros(3, 40, 30), torch.zeros(40, 30))]
    slide = Inference("slide", (24, 64), (24, 64), scales=(0.5, 2.0), flip=True)
    assert _sizes(data_of([32, 48], val, 1), slide) == [(32, 48), (20, 15), (24, 60)]


def test_sizes_of_inference_are_those_that_a_net_gets():
    got = []

    def net(image):
        got.append(tuple(image.shape[-2:]))
        return SegmentationOutput(image)

    for inference in (WHOLE, Inference("slide", (24, 20), (10, 20), scales=(0.5, 1.0, 2.0), flip=True)):
        got.clear()
        inference(net, torch.rand(1, 3, 31, 23))
        assert set(got) == set(inference.sizes(31, 23))


def test_a_large_data_set_is_not_read_whole():
    read = []

    class Many(Files):
        def __len__(self):
            return 100_000

        def size(self, index):
            read.append(index)
            return 100 - index % 11, 50

    assert _sizes(data_of([8, 8], Many(), 100_000), WHOLE)[-1] == (90, 50)
    assert 100 < len(read) <= 512
    assert max(read) > 99_000
