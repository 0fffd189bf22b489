import pytest
import torch

from segframe.metrics.confusion import ConfusionMatrix, confusion_matrix


def _case(num_classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randint(0, num_classes, (2, 5, 6), generator=generator)
    target = torch.randint(0, num_classes, (2, 5, 6), generator=generator)
    return prediction, target


def _by_hand(prediction, target, num_classes, ignore_index):
    matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    for p, t in zip(prediction.flatten().tolist(), target.flatten().tolist(), strict=True):
        if t != ignore_index:
            matrix[t, p] += 1
    return matrix


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize(
    ("num_classes", "ignore_index"),
    [(3, 255), (3, 1), (3, -1), (180, 255), (181, 255), (255, 255), (300, 255), (300, 1000)],
)
def test_counts_are_those_of_a_loop(dtype, num_classes, ignore_index):
    prediction, target = _case(num_classes)
    target[0, :2] = ignore_index
    if dtype == torch.uint8 and (num_classes > 255 or ignore_index < 0):
        pytest.skip("the labels don't fit a byte")
    ours = confusion_matrix(prediction.to(dtype), target.to(dtype), num_classes, ignore_index)
    assert ours.dtype == torch.int64
    assert torch.equal(ours, _by_hand(prediction, target, num_classes, ignore_index))


def test_byte_and_general_counting_agree_on_strided_input():
    prediction, target = _case(4)
    strided = torch.stack((target, 3 - target), -1)[..., 0].transpose(1, 2)
    assert not strided.is_contiguous()
    ours = confusion_matrix(prediction.transpose(1, 2), strided, 4, 255)
    assert torch.equal(ours, _by_hand(prediction, target, 4, 255))


@pytest.mark.parametrize("size", [(2, 60, 80), (1, 61, 81), (3, 7, 1)])
@pytest.mark.parametrize("ignore_index", [255, 1])
def test_counting_in_pairs_counts_every_pixel(size, ignore_index):
    generator = torch.Generator().manual_seed(1)
    prediction, target = (torch.randint(0, 3, size, generator=generator) for _ in range(2))
    target[:, :2] = ignore_index
    ours = confusion_matrix(prediction, target.byte(), 3, ignore_index)
    assert torch.equal(ours, _by_hand(prediction, target, 3, ignore_index))


def test_updates_add_up_and_reset():
    metric = ConfusionMatrix(4, 255)
    prediction, target = _case(4)
    first = metric.update(prediction[:1], target[:1].byte()) or metric.compute()
    kept = first.clone()
    metric.update(prediction[1:], target[1:].byte())
    assert torch.equal(metric.compute(), confusion_matrix(prediction, target, 4, 255))
    assert torch.equal(first, kept)  # an earlier result does not change under its holder
    metric.reset()
    metric.update(prediction[:1], target[:1])
    assert torch.equal(metric.compute(), kept)


def test_state_sums_over_ranks_and_stays_out_of_checkpoints():
    metric = ConfusionMatrix(4, 255)
    assert metric._reductions["matrix"] is not None
    assert metric._reductions["matrix"](torch.ones(2, 4, 4)).sum() == 32
    assert not metric.state_dict()


def test_a_batch_without_a_counted_pixel():
    prediction, target = _case(4)
    assert confusion_matrix(prediction, torch.full_like(target, 255), 4, 255).sum() == 0
    assert confusion_matrix(prediction[:0], target[:0], 4, 255).shape == (4, 4)


def test_predictions_at_ignored_pixels_do_not_matter():
    prediction, target = _case(4)
    target[0, 0, 0], prediction[0, 0, 0] = 255, 77
    assert confusion_matrix(prediction, target, 4, 255).sum() == 59


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
@pytest.mark.parametrize(
    ("labels", "guesses", "match"),
    [
        ([4], [0], "labels 4 outside 0..3"),
        ([0], [9], "predictions 9 outside 0..3"),
        ([0, 77], [5, 200], "labels 77 and predictions 5, 200 outside 0..3"),
        (list(range(20)), [0] * 20, r"labels 4, 5, 6, 7, 8, 9, 10, 11, \.\.\. outside"),
    ],
)
def test_values_out_of_range_are_named(dtype, labels, guesses, match):
    with pytest.raises(ValueError, match=match):
        confusion_matrix(torch.tensor(guesses, dtype=dtype), torch.tensor(labels, dtype=dtype), 4, 255)


@pytest.mark.parametrize("wrong", [-1, 256, 70000])
def test_values_that_wrap_in_a_byte_are_refused(wrong):
    prediction, target = _case(4)
    target[0, 0, 0] = wrong
    with pytest.raises(ValueError, match=f"labels {wrong} outside"):
        confusion_matrix(prediction, target, 4, 255)


def test_shapes_must_match():
    with pytest.raises(ValueError, match="differ in shape"):
        confusion_matrix(torch.zeros(2, 4, 4).long(), torch.zeros(2, 4, 5).long(), 3, 255)


def test_class_count_is_checked():
    with pytest.raises(ValueError, match="num_classes=0"):
        ConfusionMatrix(0, 255)
