"""`segframe benchmark strategies` as a user runs it: table, files, goals, and what it says of wrong words."""

from __future__ import annotations

import json

import pytest

from segframe.cost import sockets

pytestmark = pytest.mark.xdist_group("cost")  # one measurement for all
TINY = (
    "model=tiny",
    "model.width=64",  # so that gradients outweigh the messages' headers
    "dataset.train.num_images=16",
    "dataset.val.num_images=4",
    "dataset.crop_size=[48,48]",
    "data.batch_size=4",
    "trainer=cpu",
    "steps=2",
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """One benchmark of all strategies on one and two ranks: (exit code, stdout, stderr, result, folder)."""
    import contextlib
    import io

    from segframe.cli import main

    folder = tmp_path_factory.mktemp("cost")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGFRAME_CACHE", str(folder / "cache"))
        code = main(["benchmark", "strategies", *TINY, f"out={folder}/out"])
    assert code == 0, out.getvalue() + err.getvalue()
    result = json.loads((folder / "out/strategies.json").read_text())
    return code, out.getvalue(), err.getvalue(), result, folder / "out"


def rows(result):
    return {(row["strategy"], row["ranks"]): row for row in result["cases"]}


def test_every_case_is_measured_and_written(measured):
    code, out, err, result, folder = measured
    assert code == 0, out + err
    assert set(rows(result)) == {("single", 1), ("ddp", 1), ("ddp", 2), ("fsdp", 1), ("fsdp", 2)}
    assert (folder / "strategies.png").stat().st_size > 10_000
    assert max(len(line) for line in out.splitlines() if not line.startswith("written to")) <= 120
    for (strategy, ranks), row in rows(result).items():
        assert f"tiny {strategy} x {ranks}: measured" in err
        assert len(row["per_rank"]) == ranks
        assert len(row["per_rank"][0]["step_s"]) == 2
        assert row["images_per_s"] == pytest.approx(4e3 / row["step_ms"])
        assert 0 <= row["in_flight_share"] <= 1
    assert result["cuda"]
    assert set(result["cases"][0]) <= {*result["meaning"], *result["cases"][0]}


def test_fsdp_holds_its_share_and_ddp_the_whole(measured):
    found = rows(measured[3])
    single = found["single", 1]["held_bytes"]
    assert found["ddp", 2]["held_bytes"] == single
    assert found["fsdp", 1]["held_bytes"] == single
    assert single / 2 <= found["fsdp", 2]["held_bytes"] <= 1.05 / 2 * single


def test_half_the_images_keep_half_the_activations(measured):
    found = {case: row["memory"]["activations"] for case, row in rows(measured[3]).items()}
    assert found["ddp", 2] == pytest.approx(found["single", 1] / 2, rel=0.01)
    assert found["fsdp", 2] == pytest.approx(found["single", 1] / 2, rel=0.01)


def test_only_what_is_sharded_is_gathered_and_never_all_at_once(measured):
    found = rows(measured[3])
    assert found["single", 1]["memory"]["gathered"] == found["ddp", 2]["memory"]["gathered"] == 0
    assert 0 < found["fsdp", 2]["memory"]["gathered"] < found["single", 1]["memory"]["parameters"]


@pytest.mark.skipif(sockets.why_not() is not None, reason=str(sockets.why_not()))
def test_no_strategy_sends_more_than_it_must(measured):
    found = rows(measured[3])
    gradients = found["single", 1]["memory"]["gradients"]
    assert found["ddp", 2]["traffic"]["minimum"] == gradients  # 2 (N - 1) / N of them
    for case in (("ddp", 2), ("fsdp", 2)):
        assert 1 <= found[case]["traffic"]["ratio"] <= 1.05, case
    assert found["single", 1]["traffic"]["sent"] == found["ddp", 1]["traffic"]["sent"] == 0


def test_goals_are_told(measured):
    _, out, _, result, _ = measured
    assert len(result["goals"]) == 3
    assert out.count("goal met") == sum(goal["met"] for goal in result["goals"]) == 3


def test_a_case_that_fails_is_told_and_the_others_are_measured(segframe, tmp_path):
    # PSPNet pools to 1 x 1, so one image a rank is too few for its BatchNorm.
    small = [word for word in TINY if "width" not in word and "model" not in word and "batch_size" not in word]
    words = (*small, "model=tiny,pspnet", "strategy=single", "ranks=1", "data.batch_size=1", f"out={tmp_path}/out")
    code, out, err = segframe("benchmark", "strategies", *words)
    assert code == 1
    assert "pspnet single x 1: failed: " in err
    assert "data.batch_size=2" in err
    assert "tiny single x 1: measured" in err
    assert "Traceback" not in out + err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["model=tinny"], "did you mean `tiny`?"),
        (["strategy=ddp,fspd"], "did you mean `fsdp`?"),
        (["modle=tiny"], "did you mean `model`?"),
        (["step=3"], "did you mean `steps`?"),
        (["ranks=0"], "ranks=0 is not allowed"),
        (["ranks=1,two"], "ranks=two is not allowed"),
        (["ranks=3"], "data.batch_size=6 suits all"),
        (["strategy=spatial+data=3", "ranks=2"], "has no case"),
        (["trainer.devices=2"], "ranks="),
        (["trainer.max_steps=9"], "steps="),
    ],
)
def test_wrong_words_end_at_once(segframe, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    code, out, err = segframe("benchmark", "strategies", *words)
    assert code == 2
    assert told in err
    assert not list(tmp_path.iterdir())
    assert "Traceback" not in out + err


def test_another_benchmark_is_refused_by_name(segframe):
    code, _, err = segframe("benchmark", "strategie")
    assert code == 2
    assert "did you mean `benchmark strategies`?" in err


def test_the_help_says_what_it_does(segframe):
    code, out, _ = segframe("benchmark", "--help")
    assert code == 0
    assert "segframe benchmark strategies [model=A,B]" in out
