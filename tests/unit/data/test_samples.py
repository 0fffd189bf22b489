from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from segframe.data.augment import Augment, Wanted
from segframe.data.device import Preprocess
from segframe.data.imbalance import RareClass, RepeatFactor
from segframe.data.mix import ClassMix, CutMix
from segframe.data.reading import SampleError
from segframe.data.sampler import Key, TrainBatchSampler, Uniform
from segframe.data.samples import (
    EvalSamples,
    TrainSamples,
    check_labels,
    collate_eval,
    collate_train,
    set_up_worker,
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


class Shapes(Pairs):
    """Pairs of odd and unequal sizes with several classes and ignored pixels."""

    def __init__(self, count=24):
        rng = np.random.default_rng(5)
        super().__init__(sizes=[tuple(int(v) for v in rng.integers(9, 60, 2)) for _ in range(count)])

    def __getitem__(self, index):
        image, mask = super().__getitem__(index)
        rows, columns = mask.shape
        mask[rows // 3 :, index % columns :] = 1
        mask[: rows // 4] = 255
        if index % 6 == 0:
            mask[-4:, -5:] = 2
        return image, mask

    def counts(self):
        return np.stack([np.bincount(self[i][1].numpy().ravel(), minlength=256)[:3] for i in range(len(self))])


EVERYTHING = {"rotate": 15.0, "rotate_probability": 0.7, "blur": 0.6, "max_class_share": 0.6}
SAMPLINGS = {"uniform": Uniform, "rare class": RareClass, "repeat factor": partial(RepeatFactor, threshold=1.0)}
MIXES = {"none": None, "cutmix": CutMix(0.7, seed=3), "classmix": ClassMix(0.7, seed=3)}


def all_on(mix, num_samples=None):
    dataset = Shapes()
    return TrainSamples(dataset, Augment((21, 17), seed=3, **EVERYTHING), MIXES[mix], num_samples)


def load(dataset, sampling, *, num_workers=0, rank=0, world_size=1, batch=0):
    made = SAMPLINGS[sampling](24, dataset.dataset.counts)
    sampler = TrainBatchSampler(24, 12, rank, world_size, 3, made)
    sampler.set_position(2, batch)
    options = {"num_workers": num_workers, "worker_init_fn": set_up_worker if num_workers else None}
    batches = list(DataLoader(dataset, batch_sampler=sampler, collate_fn=collate_train, **options))
    preprocess = Preprocess((0.4, 0.5, 0.6), (0.2, 0.2, 0.2), 0.3, 0.3, 0.3, hue=0.1, erase=0.5, seed=3)
    return [(batch, preprocess(batch, epoch=2, dtype=torch.float32)) for batch in batches]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for (batch, image), (other, other_image) in zip(found, expected, strict=True):
        assert batch.names == other.names
        for one, two in ((batch.image, other.image), (batch.mask, other.mask), (batch.indices, other.indices)):
            assert torch.equal(one, two)
        assert torch.equal(image, other_image)


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*suggested max number of worker.*")
def test_batches_are_the_same_for_any_number_of_workers_and_ranks(sampling, mix):
    dataset = all_on(mix)
    whole = load(dataset, sampling)
    assert len(whole) == 2
    images = torch.cat([image for _, image in whole])
    assert len(torch.unique(images.flatten(1), dim=0)) == 24
    if sampling != "uniform":
        assert max(int(batch.indices.max()) for batch, _ in whole) >= 24  # some come again, and are not the same
    for num_workers in (1, 3) if mix == "classmix" else (1,):
        assert_same(load(dataset, sampling, num_workers=num_workers), whole)
    for world_size in (2, 3, 4):
        parts = [load(dataset, sampling, rank=rank, world_size=world_size) for rank in range(world_size)]
        for (batch, image), shares in zip(whole, zip(*parts, strict=True), strict=True):
            for field in ("image", "mask", "indices"):
                assert torch.equal(getattr(batch, field), torch.cat([getattr(part, field) for part, _ in shares]))
            assert batch.names == [name for part, _ in shares for name in part.names]
            assert torch.equal(image, torch.cat([pixels for _, pixels in shares]))
    assert_same(load(dataset, sampling, batch=1), whole[1:])


@pytest.mark.parametrize("mix", ["cutmix", "classmix"])
def test_a_mixed_sample_is_two_samples_of_the_epoch(mix):
    mixed, plain = all_on(mix), all_on("none")
    own, num_mixed = {}, 0
    for number in range(24):
        found, own[number] = mixed[Key(1, number)], plain[Key(1, number)]
        assert (found.name, found.index) == (own[number].name, number)
    for number in range(24):
        found = mixed[Key(1, number)]
        differs = (found.image != own[number].image).any(0) | (found.mask != own[number].mask)
        if not differs.any():
            continue
        num_mixed += 1
        partners = [
            other
            for k, other in own.items()
            if k != number
            and torch.equal(found.image[:, differs], other.image[:, differs])
            and torch.equal(found.mask[differs], other.mask[differs])
        ]
        assert len(partners) == 1
    assert 8 < num_mixed < 24


def test_partners_come_from_the_samples_in_use():
    mixed, plain = all_on("cutmix", num_samples=2), all_on("none")
    colours = [{tuple(c) for c in plain[Key(0, k)].image.flatten(1).T.tolist()} for k in (0, 1)]
    for number, partner in ((0, 1), (1, 0)):
        found = {tuple(c) for c in mixed[Key(0, number)].image.flatten(1).T.tolist()}
        assert found <= colours[number] | colours[partner]
    alone = all_on("cutmix", num_samples=1)
    assert torch.equal(alone[Key(0, 0)].image, plain[Key(0, 0)].image)


def test_a_sample_that_comes_again_is_augmented_anew():
    dataset = all_on("none")
    first, again = dataset[Key(0, 5)], dataset[Key(0, 5, repeat=1)]
    assert first.name == again.name
    assert (first.index, again.index) == (5, 29)
    assert not torch.equal(first.image, again.image)


def test_the_wanted_class_is_looked_for():
    dataset = all_on("none")
    shares = []
    for wanted in (None, Wanted(2, 0.005)):
        masks = [dataset[Key(epoch, 6, 0, wanted)].mask for epoch in range(60)]
        shares.append(np.mean([bool((mask == 2).any()) for mask in masks]))
    assert shares[1] > shares[0] + 0.1


def test_unequal_sizes_are_not_mixed():
    dataset = TrainSamples(Shapes(), Augment(None, (1, 1)), CutMix(1.0))
    with pytest.raises(ValueError, match=r"cannot be mixed \(pair-0.png .*crop_size.*mix=none"):
        dataset[Key(0, 0)]


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
