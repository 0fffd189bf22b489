import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from segframe.data.augment import Augment
from segframe.data.sampler import Key, TrainBatchSampler
from segframe.data.samples import (
    EvalSamples,
    SampleError,
    TrainSamples,
    check_labels,
    collate_eval,
    collate_train,
)


class Pairs:
    classes = ("a", "b", "c")
    palette = ((0, 0, 0), (1, 1, 1), (2, 2, 2))

    def __init__(self, sizes=((20, 20),) * 12, label=0, broken=None):
        self.sizes, self.label, self.broken = sizes, label, broken

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        if index == self.broken:
            raise OSError("disk failure")
        height, width = self.sizes[index]
        rng = np.random.default_rng(index)
        image = torch.from_numpy(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        return image.permute(2, 0, 1), torch.full((height, width), self.label, dtype=torch.uint8)

    def name(self, index):
        return f"pair-{index}.png"


def samples(**options):
    return TrainSamples(Pairs(**options), Augment((10, 12), seed=1))


def test_ranks_together_hold_the_batch_of_one_process():
    dataset = samples()

    def batches(rank, world_size):
        sampler = TrainBatchSampler(12, 6, rank, world_size, seed=1)
        return list(DataLoader(dataset, batch_sampler=sampler, collate_fn=collate_train))

    for whole, *parts in zip(batches(0, 1), *(batches(rank, 3) for rank in range(3)), strict=True):
        assert torch.equal(whole.image, torch.cat([part.image for part in parts]))
        assert torch.equal(whole.mask, torch.cat([part.mask for part in parts]))
        assert torch.equal(whole.indices, torch.cat([part.indices for part in parts]))
        assert whole.names == [name for part in parts for name in part.names]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_names_the_pair(num_workers):
    loader = DataLoader(EvalSamples(Pairs(broken=2)), num_workers=num_workers, collate_fn=collate_eval)
    with pytest.raises(SampleError, match=r"Pairs: sample 2 \(pair-2.png\).*OSError: disk failure"):
        list(loader)


def test_a_label_beyond_the_classes_names_the_pair_and_the_label():
    for dataset, key in ((samples(label=3), Key(0, 4)), (EvalSamples(Pairs(label=3)), 4)):
        with pytest.raises(ValueError, match=r"pair-4.png.*labels \[3\].*0 to 2 for the 3 classes and 255"):
            dataset[key]
    check_labels(torch.tensor([0, 2, 255], dtype=torch.uint8), 3, "good")


def test_unequal_sizes_make_no_batch():
    dataset = EvalSamples(Pairs(sizes=((20, 20), (20, 30))))
    with pytest.raises(ValueError, match=r"pair-0.png 20x20, pair-1.png 20x30.*data.val_batch_size=1"):
        collate_eval([dataset[0], dataset[1]])
    with pytest.raises(ValueError, match=r"augment.sample.crop_size"):
        collate_train([dataset[0], dataset[1]])
