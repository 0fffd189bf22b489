"""Which cases a comparison has."""

from __future__ import annotations

import pytest

from segframe.config.options import ConfigError
from segframe.cost.plan import plan

WORDS = ("trainer=cpu", "data.batch_size=8")


def cases(*strategies, models=("tiny",), ranks=(1, 2, 4), words=WORDS):
    return [str(case) for case in plan(models, strategies, ranks, words)[0]]


def test_each_strategy_is_measured_on_the_ranks_that_it_takes():
    assert cases("single", "spatial", "hybrid+data=2+spatial=2", ranks=(1, 2)) == [
        "tiny single x 1",
        "tiny spatial x 1",
        "tiny spatial x 2",
        "tiny hybrid data=2 spatial=2 x 4",
    ]
    assert cases("single", "ddp", ranks=(4,)) == ["tiny single x 1", "tiny ddp x 4"]
    assert cases("spatial+data=2") == ["tiny spatial data=2 x 2", "tiny spatial data=2 x 4"]


def test_words_behind_an_option_are_its_own():
    found, batch = plan(["tiny+width=8"], ["ddp+trainer.accumulate_grad_batches=2"], [2], WORDS)
    assert batch == 8
    assert str(found[0]) == "tiny 8 ddp accumulate_grad_batches=2 x 2"
    assert {"model.width=8", "trainer.accumulate_grad_batches=2", "trainer.devices=2"} <= set(found[0].words)
    assert found[0].micro_batches == 2


def test_ranks_of_one_image_need_no_images_each():
    words = ("trainer=cpu", "data.batch_size=1")
    assert cases("spatial", words=words)[-1] == "tiny spatial x 4"
    with pytest.raises(ConfigError, match=r"doesn't divide into the 2 parts .* of ddp x 2; data\.batch_size=2 suits"):
        cases("ddp", ranks=(2,), words=words)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("spatial+data=3", r"has no case with ranks=1,2,4: strategy\.data=3 takes a multiple of 3"),
        ("hybrid+dta=2", "data"),
        ("ddp+data.batch_size=4", "the same for all cases"),
        ("ddp+trainer.devices=2", "instead there is ranks="),
    ],
)
def test_what_cannot_be_measured_is_refused(strategy, message):
    with pytest.raises(ConfigError, match=message):
        cases(strategy)
