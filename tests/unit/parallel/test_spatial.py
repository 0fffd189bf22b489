"""Which sizes a net is tried with before rows are split."""

from types import SimpleNamespace

import pytest

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


@pytest.mark.parametrize(
    ("crop", "val", "limit", "expected"),
    [
        ([32, 48], VAL, 1.0, [(32, 48), (50, 60), (40, 20)]),
        ([32, 48], VAL, 2, [(32, 48), (50, 60)]),
        (None, VAL, 1.0, [(70, 8), (60, 9), (50, 60), (40, 20)]),
        ([32, 48], Files(), 1.0, [(32, 48)]),
    ],
)
def test_the_first_image_and_the_one_of_fewest_rows_are_tried(crop, val, limit, expected):
    data = SimpleNamespace(augment=SimpleNamespace(crop_size=crop), train=TRAIN, val=val)
    assert _sizes(SimpleNamespace(datamodule=data, limit_val_batches=limit)) == expected


def test_a_large_data_set_is_not_read_whole():
    read = []

    class Many(Files):
        def __len__(self):
            return 100_000

        def size(self, index):
            read.append(index)
            return 100 - index % 11, 50

    data = SimpleNamespace(augment=SimpleNamespace(crop_size=[8, 8]), train=TRAIN, val=Many())
    assert _sizes(SimpleNamespace(datamodule=data, limit_val_batches=1.0))[-1] == (90, 50)
    assert 100 < len(read) <= 512
    assert max(read) > 99_000
