import numpy as np
import pytest

from segframe.contracts import FILLER
from segframe.data.sampler import Draws, EvalBatchSampler, Key, TrainBatchSampler, Uniform


def flat(batches):
    return [key for batch in batches for key in batch]


def test_order_is_a_pure_function_of_seed_and_epoch():
    first, again, other_seed = (list(TrainBatchSampler(50, 4, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other_seed
    assert len(first) == 12
    sampler = TrainBatchSampler(50, 4, seed=1)
    epochs = [flat(sampler) for _ in range(2)]
    assert [key.sample for key in epochs[0]] != [key.sample for key in epochs[1]]
    assert {key.epoch for key in epochs[1]} == {1}
    assert len({key.sample for key in epochs[0]}) == 48


@pytest.mark.parametrize("world_size", [2, 3, 6])
def test_ranks_share_the_global_batch(world_size):
    whole = list(TrainBatchSampler(32, 6, seed=3))
    parts = [list(TrainBatchSampler(32, 6, rank, world_size, seed=3)) for rank in range(world_size)]
    assert [flat(shares) for shares in zip(*parts, strict=True)] == whole


def test_starts_at_a_batch_for_one_pass_only():
    whole = TrainBatchSampler(20, 4, seed=5)
    epochs = [list(whole) for _ in range(3)]
    sampler = TrainBatchSampler(20, 4, seed=5)
    sampler.set_position(1, 3)
    assert len(sampler) == 5
    assert list(sampler) == epochs[1][3:]
    assert list(sampler) == epochs[2]


def test_uniform_is_a_permutation_of_the_seed_and_epoch():
    # The order of runs that were made before there was another sampling; a resumed one depends on it.
    expected = np.random.Generator(np.random.Philox(key=(1 << 64) + 7, counter=[0, 0, 0, 3])).permutation(11)
    sampler = TrainBatchSampler(11, 4, seed=7)
    sampler.set_position(3)
    assert flat(sampler) == [Key(3, int(sample)) for sample in expected[:8]]


def test_counts_how_often_a_sample_came_before():
    draws = Draws.of(np.array([4, 1, 4, 4, 0, 1]))
    assert draws.repeat.tolist() == [0, 0, 1, 2, 0, 1]
    assert draws.label.tolist() == [-1] * 6


def test_keeps_the_order_without_shuffling():
    assert [key.sample for key in flat(TrainBatchSampler(9, 4, sampling=Uniform(9, shuffle=False)))] == list(range(8))


def test_refuses_what_cannot_be_shared_or_filled():
    with pytest.raises(ValueError, match=r"batch_size=10.*3 ranks.*nearest is 9 or 12"):
        TrainBatchSampler(100, 10, world_size=3)
    with pytest.raises(ValueError, match=r"batch_size=2.*4 ranks.*nearest is 4"):
        TrainBatchSampler(100, 2, world_size=4)
    with pytest.raises(ValueError, match=r"5 samples.*data.batch_size=8.*at most 5"):
        TrainBatchSampler(5, 8)
    with pytest.raises(ValueError, match=r"batch=6 is outside an epoch of 5"):
        TrainBatchSampler(20, 4).set_position(0, 6)
    with pytest.raises(ValueError, match=r"batch_size=6.*2 ranks.*x their 2 micro-batches; the nearest is 4 or 8"):
        TrainBatchSampler(100, 6, world_size=2, num_parts=2)


@pytest.mark.parametrize(("world_size", "num_parts"), [(2, 2), (3, 2), (2, 3), (1, 4)])
def test_micro_batches_of_all_ranks_are_those_of_one(world_size, num_parts):
    whole = list(TrainBatchSampler(30, 12, seed=3))
    ranks = [list(TrainBatchSampler(30, 12, r, world_size, 3, num_parts=num_parts)) for r in range(world_size)]
    size = 12 // num_parts
    share = size // world_size
    for batch, expected in enumerate(whole):
        for part in range(num_parts):
            found = [key for rank in ranks for key in rank[batch][part * share : (part + 1) * share]]
            assert found == expected[part * size : (part + 1) * size]


def test_a_rank_without_an_image_gets_a_filler():
    assert [list(EvalBatchSampler(2, 1, rank, 3)) for rank in range(3)] == [[[0]], [[1]], [[FILLER]]]
    assert [len(EvalBatchSampler(2, 1, rank, 3)) for rank in range(3)] == [1, 1, 1]


@pytest.mark.parametrize(("num_samples", "world_size", "batch_size"), [(7, 2, 2), (7, 3, 1), (3, 3, 4), (8, 1, 3)])
def test_evaluation_repeats_and_omits_nothing(num_samples, world_size, batch_size):
    samplers = [EvalBatchSampler(num_samples, batch_size, rank, world_size) for rank in range(world_size)]
    seen = [index for sampler in samplers for index in flat(sampler)]
    assert sorted(seen) == list(range(num_samples))
    assert all(len(list(sampler)) == len(sampler) for sampler in samplers)
    assert flat(samplers[0])[:2] == list(range(0, num_samples, world_size))[:2]
