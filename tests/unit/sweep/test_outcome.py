import json

import pytest

from segframe.sweep.outcome import judge
from segframe.sweep.request import read


@pytest.mark.parametrize(
    ("error", "state"),
    [("rank 1 was killed by SIGKILL", "interrupted"), ("FloatingPointError: the loss is not finite", "failed")],
)
def test_a_rank_that_was_killed_while_no_driver_lived_is_no_failure(tmp_path, error, state):
    (tmp_path / "results.json").write_text(json.dumps({"status": "failed", "error": error}))
    assert judge(tmp_path, None, read(["seed=0,1"]).settings) == (state, None, error)


def test_an_error_is_told_with_what_its_first_line_announces(tmp_path):
    error = (
        "ValueError: the data cannot be trained on:\n  train: a.png is truncated.\nSee everything: segframe data check"
    )
    (tmp_path / "results.json").write_text(json.dumps({"status": "failed", "error": error}))
    told = "ValueError: the data cannot be trained on: train: a.png is truncated."
    assert judge(tmp_path, 1, read(["seed=0,1"]).settings) == ("failed", None, told)
