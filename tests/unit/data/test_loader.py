"""The training loader tells how long it was waited for, and leaves no process behind."""

from __future__ import annotations

import itertools
import multiprocessing
import time

import pytest
import torch

from segframe.data.augment import Augment
from segframe.data.loader import TrainLoader
from segframe.data.module import DataModule
from segframe.data.sampler import TrainBatchSampler
from segframe.data.samples import TrainSamples, collate_train

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks.*:DeprecationWarning")


class Slow:
    classes = ("only",)
    palette = ((0, 0, 0),)

    def __init__(self, delay_s=0.0, count=16):
        self.delay_s, self.count = delay_s, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        time.sleep(self.delay_s)
        return torch.zeros((3, 8, 8), dtype=torch.uint8), torch.zeros((8, 8), dtype=torch.uint8)

    def name(self, index):
        return str(index)


def loader(delay_s, **options):
    dataset = Slow(delay_s)
    return TrainLoader(
        TrainSamples(dataset, Augment(None, (1.0, 1.0))),
        TrainBatchSampler(len(dataset), 4),
        lambda: (0, 0),
        collate_fn=collate_train,
        **options,
    )


def test_waiting_is_measured_and_the_step_is_not():
    slow = loader(0.01)
    assert slow.waited_s == 0
    for number, _ in enumerate(slow, 1):
        assert slow.waited_s >= number * 4 * 0.01
        before = slow.waited_s
        time.sleep(0.02)  # the step
        assert slow.waited_s == before
    assert number == 4
    first_pass = slow.waited_s
    list(slow)
    assert slow.waited_s >= 2 * first_pass * 0.5


def test_the_first_batch_counts_and_those_that_workers_have_ready_do_not():
    with_workers = loader(0.03, num_workers=2, persistent_workers=True, prefetch_factor=2)
    batches = iter(with_workers)
    next(batches)
    first = with_workers.waited_s
    assert first >= 4 * 0.03
    time.sleep(0.5)
    next(batches)
    assert with_workers.waited_s - first < 4 * 0.03
    with_workers._iterator._shutdown_workers()


@pytest.mark.parametrize("num_batches", [0, 1, 4])
def test_a_pass_that_is_left_halfway_leaves_no_process(num_batches):
    data = DataModule(Slow(), Slow(), Augment(None, (1.0, 1.0)), batch_size=4, num_workers=2)
    before = set(multiprocessing.active_children())
    batches = iter(data.train_dataloader())
    assert len(list(itertools.islice(batches, num_batches))) == num_batches
    assert len(set(multiprocessing.active_children()) - before) == 2
    data.close()
    assert set(multiprocessing.active_children()) == before
