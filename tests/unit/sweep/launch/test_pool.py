import pytest

from segframe.config.options import ConfigError
from segframe.sweep.launch.devices import cgroup_share
from segframe.sweep.launch.job import Need
from segframe.sweep.launch.local import LocalLauncher
from segframe.sweep.launch.needs import of_a_job
from segframe.sweep.launch.pool import Pool


def values(small, *words):
    from segframe.config.compose import compose, resolved

    return resolved(compose([*small, *words]))


def test_trials_share_nothing():
    pool = Pool([0, 4, 1, 5, 2], ["GPU-a", "GPU-b"], parallel=2)
    assert pool.equal == Need(1, cores=2, gpus=1)  # one core is left over, so that trials have the same threads
    first, second = pool.take(pool.equal), pool.take(pool.equal)
    assert (first.cores, second.cores) == ((0, 4), (1, 5))
    assert (first.gpus, second.gpus) == (("GPU-a",), ("GPU-b",))
    assert not pool.has_room(Need(1, 1))  # two at once were asked for
    pool.give_back(first)
    assert pool.has_room(Need(2, 2, 1))
    assert not pool.has_room(Need(2, 4, 2))  # a large one waits for both
    pool.give_back(second)
    assert pool.take(Need(2, 4, 2)).gpus == ("GPU-a", "GPU-b")


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        ([Need(2, 2), Need(4, 4)], "needs 6 cores.*trials of 2 cores each.*4 are there; use sweep.parallel=2"),
        ([Need(1, 1, 1)], "needs 3 GPUs.*a GPU for each trial.*1 is there; use sweep.parallel=1"),
        ([Need(1, 1, 2)], r"a trial takes 2 GPUs and 1 is there; use trainer=cpu, or trainer\.devices=1\."),
    ],
)
def test_more_at_once_than_fit_is_refused(needs, message):
    with pytest.raises(ConfigError, match=message):
        Pool(range(4), ["0"], parallel=3).check(needs)


@pytest.mark.parametrize(
    ("words", "need"),
    [
        ((), Need(1, 2)),
        (("strategy=ddp", "trainer.devices=2"), Need(2, 2)),
        (("strategy=ddp", "trainer.devices=4"), Need(4, 4)),
        (("trainer=gpu",), Need(1, 2, 1)),
        (("trainer=gpu", "strategy=ddp", "trainer.devices=2"), Need(2, 2, 2)),
    ],
)
def test_a_trial_takes_its_share_or_what_its_ranks_need(small, words, need):
    launcher = LocalLauncher(2, Pool(range(4), ["0", "1"], 2))
    assert launcher.need(values(small, *words)) == need


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("trainer=gpu", "trainer.devices=[2,3]", "strategy=ddp"),
            "use trainer.devices=2, and CUDA_VISIBLE_DEVICES=2,3",
        ),
        (("trainer=gpu", "trainer.devices=4", "strategy=ddp"), "asks for 4 GPUs and 2 are there"),
        (("trainer.num_nodes=2",), "runs on one machine"),
        (("strategy=ddp", "trainer.devices=3"), "data.batch_size=4"),
    ],
)
def test_what_a_sweep_can_not_hand_out_is_refused(small, words, message):
    with pytest.raises(ConfigError, match=message):
        LocalLauncher(2, Pool(range(4), ["0", "1"], 2)).need(values(small, *words))


def test_the_job_of_an_engine_holds_its_trial(small):
    assert of_a_job(values(small), 4, None, "KEY") == Need(1, 4, 0)
    on_two = values(small, "trainer=gpu", "strategy=ddp", "trainer.devices=2")
    assert of_a_job(on_two, 4, None, "KEY") == Need(2, 4, 2)
    with pytest.raises(ConfigError, match=r"with KEY=1: .*asks for 2 GPUs and 1 is there"):
        of_a_job(on_two, 4, 1, "KEY")
    with pytest.raises(ConfigError, match=r"give trainer=gpu or trainer=cpu, or KEY=N"):
        of_a_job(values(small, "trainer=auto"), 4, None, "KEY")


def test_the_share_of_a_container(tmp_path):
    assert cgroup_share(tmp_path) is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cgroup_share(tmp_path) is None
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert cgroup_share(tmp_path) == 2.5
