import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from segframe import runfolder, runs
from segframe.runs.record import STALE_S, read_record
from segframe.sweep.trial import Trial


def test_a_row_per_run_with_what_differs_between_them(run_folder, tmp_path):
    run_folder("x/deep/one", "seed=1")
    run_folder("two", "optimizer.lr=0.5", "loss.class_weights=[1,2,3,4,5,6]", skill=0.5)
    table = runs.load(tmp_path)
    assert [os.path.relpath(folder, tmp_path) for folder in table.folder] == ["two", "x/deep/one"]
    assert table.columns[len(runs.load.__globals__["COLUMNS"]) :].tolist() == ["loss.class_weights", "optimizer.lr"]
    assert table["optimizer.lr"].tolist() == [0.5, 0.001]
    assert table["loss.class_weights"][0] == "[1, 2, 3, 4, 5, 6]"
    assert table.miou.tolist() == table.miou_final.tolist() == [0.5, 0.7]
    assert (
        table[["model", "dataset", "strategy", "state"]].values.tolist()
        == [["tiny", "synthetic", "auto", "finished"]] * 2
    )
    assert table.seed.tolist() == [0, 1]
    assert (table.images_per_s == 100).all()
    assert (table.seconds == 12.5).all()
    assert abs(table.started[0].timestamp() - time.time()) < 60
    assert not table.sweep.any()


def test_experiments_name_their_model_and_data(run_folder):
    folder = run_folder("a")
    (folder / "overrides.json").write_text(json.dumps(["experiment=camvid_cpu", "dataset.root=x"]))
    found = read_record(folder).options
    assert [found[group] for group in ("model", "dataset", "strategy")] == ["fpn", "camvid", "auto"]
    (folder / "overrides.json").unlink()
    assert read_record(folder).options == {}  # nobody knows


def test_constructors_with_the_same_keys_are_told_apart(run_folder, tmp_path):
    run_folder("a", "optimizer=adamw", "optimizer._target_=segframe.optim.adamw")
    run_folder("b", "optimizer=adam", "optimizer._target_=segframe.optim.adam")
    assert runs.load(tmp_path)["optimizer._target_"].tolist() == ["segframe.optim.adamw", "segframe.optim.adam"]
    run_folder("c", "model=unet")
    assert "model._target_" not in runs.load(tmp_path)  # the column model says it


@pytest.mark.parametrize("started", [1e30, "soon", float("nan"), -5])
def test_a_start_that_no_calendar_has_is_that_of_its_oldest_file(run_folder, tmp_path, started):
    (run_folder("a", "seed=99999999999999999999") / "environment.json").write_text(json.dumps({"started": started}))
    table = runs.load(tmp_path)
    assert abs(table.started[0].timestamp() - time.time()) < 60
    assert table.seed.isna().all()


def test_trials_of_a_sweep_say_so(run_folder, tmp_path):
    for number, state in enumerate(("finished", "pruned", "failed")):
        folder = run_folder(f"sweeps/s/trials/{number:04d}", status="finished" if number == 0 else "interrupted")
        Trial(number, {}, ["model=tiny"], folder, state=state, error="boom" if state == "failed" else None).write()
    never = tmp_path / "sweeps/s/trials/0003"
    Trial(3, {}, ["model=pspnet"], never, state="failed", error="no such file").write()
    (tmp_path / "sweeps/s/sweep.json").write_text("{}")
    (tmp_path / "sweeps/s/results.json").write_text("{}")
    table = runs.load(tmp_path)
    assert table.state.tolist() == ["finished", "pruned", "failed", "failed"]
    assert table.trial.tolist() == [0, 1, 2, 3]
    assert set(table.sweep) == {str(tmp_path / "sweeps/s")}
    assert table.error.tolist()[2:] == ["boom", "no such file"]
    assert table.model.tolist()[3] == "pspnet"


def test_a_run_is_running_as_long_as_its_process_lives(run_folder):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    folder = run_folder("a", status="running")
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["process"] == runfolder.own_process()
    assert read_record(folder).state == "running"
    environment["process"] |= {"pid": child.pid, "start": runfolder._start_of(child.pid)}
    (folder / "environment.json").write_text(json.dumps(environment))
    assert read_record(folder).state == "running"
    child.kill()
    child.communicate()
    record = read_record(folder)
    assert (record.state, record.error) == ("stale", "its process is gone")
    environment["process"] |= {"pid": os.getpid()}  # the number went to another process
    (folder / "environment.json").write_text(json.dumps(environment))
    assert read_record(folder).state == "stale"


def test_a_run_of_another_machine_is_stale_when_it_is_silent(run_folder):
    folder = run_folder("a", status="running")
    environment = json.loads((folder / "environment.json").read_text())
    environment["process"]["host"] = "elsewhere"
    (folder / "environment.json").write_text(json.dumps(environment))
    assert read_record(folder).state == "running"
    record = read_record(folder, now=time.time() + STALE_S + 60)
    assert (record.state, record.error) == ("stale", "nothing written for 31 minutes")


def test_a_trial_that_ended_before_its_driver_looked_is_finished(run_folder, tmp_path):
    folder = run_folder("sweeps/s/trials/0000")
    Trial(0, {}, ["model=tiny"], folder, state="running").write()
    environment = json.loads((folder / "environment.json").read_text())
    environment["process"]["pid"] = 2**22  # gone
    (folder / "environment.json").write_text(json.dumps(environment))
    assert read_record(folder).state == "finished"


def test_an_empty_table_has_the_types_of_a_full_one(run_folder, tmp_path):
    empty = runs.load(tmp_path)
    run_folder("a")
    assert empty[["seed", "trial", "miou", "miou_final", "images_per_s", "seconds"]].dtypes.equals(
        runs.load(tmp_path)[["seed", "trial", "miou", "miou_final", "images_per_s", "seconds"]].dtypes
    )


DAMAGE = {
    "config.yaml": (b"a: [1,", "config.yaml is no valid YAML"),
    "config.yaml ": (b"\xff", "config.yaml can't be read: 'utf-8' codec"),
    " config.yaml": (b"run: 2024-02-30", "config.yaml can't be read: day is out of range"),
    "results.json": (b'{"status": "fin', "results.json can't be read"),
    "results.json ": (b'{"status": "odd"}', "results.json has status=odd, which this version does not know"),
    "environment.json": (b"\xff\xfe", "environment.json can't be read"),
    "trial.json": (b"[]", "not what a sweep writes"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_a_row_too(run_folder, tmp_path, name):
    folder = run_folder("a")
    content, told = DAMAGE[name]
    (folder / name.strip()).write_bytes(content)
    table = runs.load(tmp_path)
    assert table.state.tolist() == ["broken"]
    assert told in table.error[0]


def test_what_is_missing_is_told(run_folder, tmp_path):
    folder = run_folder("a")
    (folder / "results.json").unlink()
    assert runs.load(tmp_path).error[0].startswith("no results.json")
    for path in ("config.yaml", "environment.json", "overrides.json", "metrics.csv"):
        (folder / path).unlink()
    assert len(runs.load(tmp_path)) == 0
    with pytest.raises(FileNotFoundError, match="nowhere is no folder"):
        runs.load(tmp_path / "nowhere")


def test_a_run_keeps_its_first_start_when_it_goes_on(run_folder):
    folder = run_folder("a")
    before = json.loads((folder / "environment.json").read_text())
    before["started"] -= 1000
    (folder / "environment.json").write_text(json.dumps(before))
    runfolder.prepare(folder, {}, [])
    assert json.loads((folder / "environment.json").read_text())["started"] == before["started"]


def test_links_are_followed_once(run_folder, tmp_path):
    run_folder("inside/a")
    (tmp_path / "inside/back").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "inside/a")
    (tmp_path / "round").symlink_to("round")  # leads to itself
    assert len(runs.load(tmp_path)) == 1


def test_sections_that_refer_to_each_other_are_read_whole(run_folder):
    folder = run_folder("a")
    text = "first: &id001\n  key: [1, 2]\nsecond: *id001\n"
    (folder / "config.yaml").write_text(text)
    assert read_record(folder).config == {"first.key": [1, 2], "second.key": [1, 2]}
    assert np.isnan(read_record(folder).metric("val/nothing", "best"))
