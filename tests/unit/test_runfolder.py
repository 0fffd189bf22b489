import json
import math

import pytest
import yaml

from segframe import runfolder
from segframe.config.compose import compose, resolved


def values(small, folder, *words):
    return resolved(compose([*small, *words, f"run.dir={folder}"]))


def test_the_folder_says_what_was_asked_for_and_what_it_ran_on(small, tmp_path):
    asked = values(small, tmp_path / "run")
    runfolder.prepare(tmp_path / "run", asked, list(small))
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text()) == asked
    assert "${" not in (tmp_path / "run/config.yaml").read_text()
    assert json.loads((tmp_path / "run/overrides.json").read_text()) == list(small)
    environment = json.loads((tmp_path / "run/environment.json").read_text())
    assert environment["versions"].keys() >= {"python", "segframe", "torch", "pytorch-lightning", "numpy"}
    assert "absent" not in environment["versions"].values()
    assert environment["command"]
    git = environment["git"]
    assert git is None or (len(git["commit"]) == 40 and isinstance(git["dirty"], bool))


def test_equal_computations_have_equal_hashes(small, tmp_path):
    first = runfolder.config_hash(values(small, tmp_path / "a"))
    assert first == runfolder.config_hash(values(small, tmp_path / "b"))
    assert first == runfolder.config_hash(values(small, tmp_path / "b", "logger=tensorboard", "run.name=x"))
    others = [
        runfolder.config_hash(values(small, tmp_path / "a", *words))
        for words in (["seed=1"], ["optimizer.lr=0.5"], ["model=unet"], ["dataset.train.seed=4"], ["loss=dice"])
    ]
    assert len({first, *others}) == 6
    assert len(first) == 12


def test_final_and_best_take_the_right_end_of_each_key(tmp_path):
    (tmp_path / "metrics.csv").write_text(
        "step,epoch,train/loss,train/empty_batches,lr,val/miou,val/loss\n"
        "1,0,3.0,1,0.1,,\n2,0,1.0,0,0.1,0.5,2.0\n3,1,2.0,2,0.1,,\n4,1,1.5,1,0.1,0.25,4.0\n"
    )
    assert runfolder.final_and_best(tmp_path / "metrics.csv") == {
        "train/loss": {"final": 1.5, "best": 1.0},
        "train/empty_batches": {"final": 1.0, "best": 0.0},
        "val/miou": {"final": 0.25, "best": 0.5},
        "val/loss": {"final": 4.0, "best": 2.0},
    }


@pytest.mark.parametrize("content", [None, "", "step,epoch,train/loss\n"])
def test_nothing_logged_is_no_metric(tmp_path, content):
    if content is not None:
        (tmp_path / "metrics.csv").write_text(content)
    assert runfolder.final_and_best(tmp_path / "metrics.csv") == {}


def test_results_of_a_run_that_diverged_are_json(small, tmp_path):
    (tmp_path / "metrics.csv").write_text("step,epoch,train/loss,val/loss\n1,0,3.0,inf\n2,0,inf,nan\n")
    runfolder.write_results(tmp_path, values(small, tmp_path), "failed")

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    metrics = json.loads((tmp_path / "results.json").read_text(), parse_constant=refuse)["metrics"]
    assert metrics["train/loss"] == {"final": None, "best": 3.0}
    assert metrics["val/loss"] == {"final": None, "best": None}


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    runfolder.write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        runfolder.write_json(tmp_path / "x.json", {"a": math.nan})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_memory_is_what_this_process_held():
    assert 0.05 < runfolder.peak_memory_gib() < 64


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_folder_that_can_t_be_made_is_named_with_the_remedy(tmp_path, where):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"run\.dir=.*/file.* can't be written \(.+\); give another run\.dir\."):
        runfolder.prepare(tmp_path / where, {}, [])
