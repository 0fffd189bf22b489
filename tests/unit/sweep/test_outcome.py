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
