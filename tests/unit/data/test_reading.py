"""Parts of samples: together they are the whole, to the bit, and none reads what others hold."""

import numpy as np
import pytest
import torch

from segframe.contracts import FILLER, RowBacked, Span
from segframe.data.augment import Augment, Wanted
from segframe.data.device import Preprocess
from segframe.data.mix import ClassMix, CutMix
from segframe.data.reading import Arrays, SampleError, Stored, own_rows, source
from segframe.data.sampler import Key
from segframe.data.samples import EvalSamples, TrainSamples, collate_eval, collate_train

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


class Images:
    """Noise of odd and unequal sizes, under blobs of several classes and ignored pixels."""

    classes = ("a", "b", "c", "d")
    palette = ((0, 0, 0), (1, 1, 1), (2, 2, 2), (3, 3, 3))

    def __init__(self, sizes):
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        height, width = self.sizes[index]
        rng = np.random.default_rng(index)
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        labels = np.kron(rng.choice([0, 0, 0, 1, 2, 3, 255], (4, 5)), np.ones((-(-height // 4), -(-width // 5))))
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(labels[:height, :width].astype(np.uint8))

    def name(self, index):
        return f"number-{index}"


class WithRows(Images):
    """The same, with notes of which rows of which image and mask were read."""

    def __init__(self, sizes):
        super().__init__(sizes)
        self.images, self.masks = [], []

    def __getitem__(self, index):
        raise AssertionError("a whole pair was read")

    def size(self, index):
        return self.sizes[index]

    def image_rows(self, index, start, stop):
        assert 0 <= start < stop <= self.sizes[index][0]
        self.images.append((start, stop))
        return super().__getitem__(index)[0][:, start:stop]

    def mask_rows(self, index, start, stop):
        assert 0 <= start < stop <= self.sizes[index][0]
        self.masks.append((start, stop))
        return super().__getitem__(index)[1][start:stop]


def some_augment(rng):
    """An augmentation of random keys, and the batch's, of which about half are on."""
    crop = None if rng.random() < 0.15 else tuple(int(v) for v in rng.integers(5, 60, 2))
    scale = (1, 1) if crop is None or rng.random() < 0.2 else tuple(sorted(rng.uniform(0.1, 3, 2)))
    rotate = float(rng.choice([0, 0, 25, 180]))
    limits = {"max_class_share": float(rng.choice([0.5, 1.0])), "rotate": rotate}
    augment = Augment(crop, scale, blur=0.5, blur_sigma=(0.1, 3.0), seed=int(rng.integers(99)), **limits)
    strength, hue = float(rng.choice([0, 0.5])), float(rng.choice([0, 0.2]))
    return augment, Preprocess(MEAN, STD, strength, strength, strength, hue, erase=float(rng.choice([0, 0.7])), seed=1)


def on_device(preprocess, batches, epoch=2):
    """Returns each rank's images; the ranks meet where sums over an image are asked for."""
    sums = []
    for batch in batches:
        preprocess(batch, epoch=epoch, dtype=torch.float64, sum_over_image=lambda own: sums.append(own) or own)
    assert not sums or len(sums) == len(batches)
    return [
        preprocess(batch, epoch=epoch, dtype=torch.float64, sum_over_image=lambda own: sum(sums)) for batch in batches
    ]


def assert_parts_make(whole, batches, preprocess, epoch):
    height = whole.mask.shape[1]
    assert whole.span is None
    for number, batch in enumerate(batches):
        assert batch.span == Span.part(height, number, len(batches))
        assert (batch.names, batch.indices.tolist()) == (whole.names, whole.indices.tolist())
        assert batch.image.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(torch.cat([batch.image for batch in batches], 2), whole.image)
    assert torch.equal(torch.cat([batch.mask for batch in batches], 1), whole.mask)
    image = preprocess(whole, epoch=epoch, dtype=torch.float64)
    # OpenCV rounds the last few pixels of an array once more than the others.
    torch.testing.assert_close(torch.cat(on_device(preprocess, batches, epoch), 2), image, rtol=0, atol=1e-15)


def test_parts_of_training_samples_make_the_whole():
    rng = np.random.default_rng(0)
    sizes = [tuple(int(v) for v in rng.integers(5, 70, 2)) for _ in range(6)]
    one_size = [sizes[0]] * 6
    for number in range(48):
        augment, preprocess = some_augment(rng)
        mix = [None, CutMix(0.8, seed=number), ClassMix(0.8, seed=number)][number % 3]
        used = sizes if augment.crop_size else one_size
        wanted = Wanted(2, 0.3) if rng.random() < 0.5 else None
        key = Key(int(rng.integers(5)), int(rng.integers(6)), int(rng.integers(2)), wanted)
        whole = collate_train([TrainSamples(Images(used), augment, mix)[key]])
        assert whole.image.unique().numel() > 1
        count = int(rng.integers(2, 6))
        dataset = (Images, WithRows)[number % 2](used)
        parts = [TrainSamples(dataset, augment, mix, None, (part, count))[key] for part in range(count)]
        assert_parts_make(whole, [collate_train([part]) for part in parts], preprocess, key.epoch)


def test_parts_of_evaluation_images_make_the_whole():
    for size, count in (((5, 9), 5), ((31, 17), 2), ((37, 20), 3), ((64, 8), 4)):
        whole = collate_eval([EvalSamples(Images([size]))[0]])
        dataset = WithRows([size])
        samples = [EvalSamples(dataset, (part, count)) for part in range(count)]
        assert_parts_make(whole, [collate_eval([part[0]]) for part in samples], Preprocess(MEAN, STD), None)
        own = [(span.start, span.stop) for span in (Span.part(size[0], part, count) for part in range(count))]
        assert dataset.images == dataset.masks == own
        filler = samples[1][FILLER]
        assert (filler.index, filler.span) == (FILLER, Span.part(size[0], 1, count))
        assert (filler.mask == 255).all()
        assert torch.equal(filler.image, samples[1][0].image)


def test_what_is_varied_is_varied_by_the_whole_image():
    """What the comparison above could not tell from a rank's own rows."""
    image = torch.full((1, 3, 8, 6), 90, dtype=torch.uint8)
    image[:, :, 4:] = 160
    batch = collate_eval([EvalSamples(Images([(8, 6)]))[0]])._replace(image=image)
    preprocess = Preprocess(MEAN, STD, contrast=0.9, erase=1.0, erase_area=(0.3, 0.4), seed=2)
    whole = preprocess(batch, epoch=0, dtype=torch.float64)
    halves = [batch.part(part, 2) for part in range(2)]
    torch.testing.assert_close(torch.cat(on_device(preprocess, halves, 0), 2), whole, rtol=0, atol=1e-15)
    alone = torch.cat([preprocess(half, epoch=0, dtype=torch.float64) for half in halves], 2)
    assert (alone - whole).abs().max() > 0.1


def reads(augment, part, count, size=(240, 90), mix=None):
    dataset = WithRows([size] * 2)
    TrainSamples(dataset, augment, mix, None, (part, count))[Key(0, 0)]
    return dataset


@pytest.mark.parametrize("scale", [(1, 1), (0.5, 0.5), (1.7, 1.7)])
def test_a_part_reads_the_rows_that_it_shows(scale):
    crop = (80, 60)
    rows = round(crop[0] / scale[0])
    for blur in (0.0, 1.0):
        augment = Augment(crop, scale, blur=blur, blur_sigma=(2.0, 2.0), seed=4)
        whole = reads(augment, 0, 1 + 1).images[0][0]
        for part in range(4):
            dataset = reads(augment, part, 4)
            ((start, stop),), ((first, last),) = dataset.images, dataset.masks
            halo = blur * 8 * rows / 80 + 3
            assert stop - start <= rows / 4 + 2 * halo
            assert whole - 3 + part * rows / 4 - halo <= start <= first
            assert last <= stop
            assert last - first <= rows / 4 + 2
    turned = Augment(crop, scale, rotate=10.0, seed=4)
    spans = [stop - start for part in range(4) for start, stop in reads(turned, part, 4).images]
    assert max(spans) < 0.6 * rows


def test_the_whole_mask_is_read_where_it_decides():
    crop, every = (80, 60), (0, 240)
    limited = reads(Augment(crop, (1, 1), max_class_share=0.4), 1, 4)
    assert limited.masks == [every]
    assert limited.images[0][1] - limited.images[0][0] == 20
    for mix, rows in ((CutMix(1.0), 20), (ClassMix(1.0), 80)):
        found = reads(Augment(crop, (1, 1)), 1, 4, mix=mix)
        assert [stop - start for start, stop in found.masks] == [20, rows]
        assert [stop - start for start, stop in found.images] == [20, 20]


def test_too_few_rows_end_on_every_rank_alike():
    for part in range(4):
        with pytest.raises(ValueError, match=r"3 rows can't be split over 4 ranks.*crop_size"):
            own_rows(3, (part, 4))
        with pytest.raises(ValueError, match=r"3 rows can't be split over 4 ranks"):
            EvalSamples(WithRows([(3, 9)]), (part, 4))[0]
    assert [own_rows(4, (part, 4))[:2] for part in range(4)] == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_unequal_sizes_are_told_in_whole_rows():
    dataset = EvalSamples(WithRows([(20, 9), (21, 9)]), (0, 2))
    assert dataset[0].mask.shape == dataset[1].mask.shape
    with pytest.raises(ValueError, match=r"number-0 20x9, number-1 21x9"):
        collate_eval([dataset[0], dataset[1]])
    mixed = TrainSamples(WithRows([(20, 9), (21, 9)]), Augment(None, (1, 1)), CutMix(1.0), None, (0, 2))
    with pytest.raises(ValueError, match=r"cannot be mixed \(number-0 20x9, number-1 21x9"):
        mixed[Key(0, 0)]


def test_an_error_while_rows_are_read_names_the_pair():
    class Broken(WithRows):
        def image_rows(self, index, start, stop):
            raise OSError("disk failure")

        mask_rows = WithRows.mask_rows

    with pytest.raises(SampleError, match=r"Broken: sample 1 \(number-1\).*OSError: disk failure"):
        EvalSamples(Broken([(8, 8)] * 2), (0, 2))[1]


def test_rows_of_a_class_that_changes_whole_pairs_are_cut_out_of_these():
    class Darker(WithRows):
        def __getitem__(self, index):
            image, mask = Images.__getitem__(self, index)
            return image // 2, mask

    plain, changed = WithRows([(8, 8)]), Darker([(8, 8)])
    assert isinstance(changed, RowBacked)
    assert isinstance(source(plain, 0, in_parts=True), Stored)
    assert isinstance(source(changed, 0, in_parts=True), Arrays)
    part = EvalSamples(changed, (1, 2))[0]
    assert torch.equal(part.image, changed[0][0][:, 4:])
