import math
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from segframe import schedule

FILES = sorted((Path(__file__).parents[2] / "conf" / "scheduler").glob("*.yaml"))
FACTORIES = [schedule.constant, schedule.poly, schedule.cosine, schedule.step]


def _optimizer():
    net = torch.nn.Linear(1, 1)
    net.weight.grad = torch.ones(1, 1)
    return torch.optim.SGD([{"params": [net.weight], "lr": 1.0}, {"params": [net.bias], "lr": 10.0}])


def _rates(factory, steps, total_steps, **options):
    optimizer = _optimizer()
    scheduler = factory(optimizer, total_steps, **options)
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    first, second = zip(*rates, strict=True)
    assert second == pytest.approx([10 * rate for rate in first])  # groups keep their ratio
    return list(first)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_option_runs_to_its_end_and_beyond(file):
    rates = _rates(instantiate(OmegaConf.load(file)), 25, 20)
    assert rates[0] == 1.0
    assert all(0 <= rate <= 1 for rate in rates)
    assert len(set(rates[20:])) == 1
    assert (rates[19] < 0.1) == (file.stem != "constant")


@pytest.mark.parametrize("factory", FACTORIES)
def test_warm_up_is_linear_and_ends_at_the_full_rate(factory):
    rates = _rates(factory, 6, 100, warmup_steps=4, warmup_factor=0.2)
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_poly():
    rates = _rates(schedule.poly, 11, 10, power=2.0, min_lr_factor=0.1, warmup_steps=2)
    assert rates[2:] == pytest.approx([0.1 + 0.9 * (1 - i / 8) ** 2 for i in range(9)])


def test_cosine():
    rates = _rates(schedule.cosine, 11, 10, min_lr_factor=0.1)
    assert rates == pytest.approx([0.1 + 0.45 * (1 + math.cos(math.pi * i / 10)) for i in range(11)])


def test_step_falls_at_shares_of_the_run():
    rates = _rates(schedule.step, 10, 10, milestones=[0.7, 0.3], gamma=0.5)  # 0.7 * 10 is above 7 in binary
    assert rates == [1.0] * 3 + [0.5] * 4 + [0.25] * 3


def test_step_multiplies_with_a_warm_up_that_is_not_over():
    rates = _rates(schedule.step, 10, 10, milestones=[0.2], gamma=0.5, warmup_steps=4, warmup_factor=0.0)
    assert rates[:5] == [0.0, 0.25, 0.25, 0.375, 0.5]


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_resumed_schedule_goes_on_where_it_stopped(factory):
    """Pure function of the step: the state is a step number, and holds nothing that needs unpickling."""
    whole = _rates(factory, 10, 10, warmup_steps=3)
    assert len(set(whole)) > 3
    optimizer = _optimizer()
    scheduler = factory(optimizer, 10, warmup_steps=3)
    for _ in range(5):
        optimizer.step()
        scheduler.step()
    fresh = _optimizer()
    again = factory(fresh, 10, warmup_steps=3)
    fresh.load_state_dict(optimizer.state_dict())
    again.load_state_dict(scheduler.state_dict())
    assert scheduler.state_dict()["lr_lambdas"] == [None, None]
    rates = []
    for _ in range(5):
        rates.append(fresh.param_groups[0]["lr"])
        fresh.step()
        again.step()
    assert rates == whole[5:]


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_run_may_be_all_warm_up_but_not_shorter(factory):
    assert _rates(factory, 3, 3, warmup_steps=3)[-1] < 1
    with pytest.raises(ValueError, match="warmup_steps=4 is longer than the run of 3"):
        factory(_optimizer(), 3, warmup_steps=4)
    with pytest.raises(ValueError, match="total_steps=0"):
        factory(_optimizer(), 0)
