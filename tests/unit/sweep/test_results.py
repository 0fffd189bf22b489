"""What is shown of a sweep, while it runs and at its end, from what its folder holds."""

import csv
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from segframe.sweep import results
from segframe.sweep.importance import Span, importance
from segframe.sweep.live import Lines, LiveTable, Status, display, event_line, status_line
from segframe.sweep.pictures import draw
from segframe.sweep.progress import Pace, Progress, Watched, progress, whole_left_s
from segframe.sweep.seeds import over_seeds
from segframe.sweep.settings import Ray, Searching, Settings, Slurm, Sweep
from segframe.sweep.table import overview
from segframe.sweep.trial import Trial
from segframe.verbs import sweep as verb

NOW = 1_800_000_000.0


def a_sweep(folder, axes=("optimizer.lr", "model"), num_trials=6, direction="maximize"):
    settings = Settings(
        dir=None,
        trials=num_trials,
        parallel=2,
        launcher="local",
        metric="val/miou",
        direction=direction,
        value="best",
        retries=1,
        words=[],
        space={},
        search=Searching("tpe", "median", 5, 1, 0, None),
        slurm=Slurm("local", None, 1, None, 1, None, None, {}),
        ray=Ray("auto", 1, None),
    )
    return Sweep("lr", Path(folder), settings, tuple(axes), ("trainer=cpu",), num_trials, "segframe sweep sweep=lr", 4)


def a_trial(folder, number, params, state="finished", values=(0.1, 0.2), **more):
    """A trial whose run folder holds as many epochs as there are values, of five steps each."""
    run = Path(folder) / "trials" / f"{number:04d}"
    run.mkdir(parents=True, exist_ok=True)
    rows = [f"{5 * (epoch + 1)},{epoch},0.5,{value}" for epoch, value in enumerate(values)]
    (run / "metrics.csv").write_text("\n".join(["step,epoch,train/loss,val/miou", *rows, ""]))
    (run / "config.yaml").write_text("trainer:\n  max_epochs: 4\n  max_steps: -1\n")
    value = max(values, default=None) if state in ("finished", "pruned") else None
    words = ["trainer=cpu", *(f"{key}={value!r}" for key, value in params.items())]
    times = {"started": NOW - 100, "ended": None if state == "running" else NOW - 40}
    trial = Trial(number, params, words, run, **{"state": state, "attempts": 1, "value": value, **times, **more})
    trial.write()
    return trial


@pytest.fixture
def trials(tmp_path):
    found = [
        a_trial(tmp_path, 0, {"optimizer.lr": 0.001, "model": "tiny"}, values=(0.1, 0.3, 0.25, 0.2)),
        a_trial(tmp_path, 1, {"optimizer.lr": 0.01, "model": "it's [bold]"}, values=(0.2, 0.4, 0.5, 0.45)),
        a_trial(tmp_path, 2, {"optimizer.lr": 0.1, "model": "tiny"}, state="failed", values=(), error="ValueError: no"),
        a_trial(tmp_path, 3, {"optimizer.lr": 0.05, "model": "tiny"}, state="pruned", values=(0.05,)),
        a_trial(tmp_path, 4, {"optimizer.lr": 0.02, "model": "tiny"}, state="running", values=(0.2, 0.35)),
    ]
    return found


def drawn(view, width=100, height=30):
    out = io.StringIO()
    Console(file=out, width=width, height=height).print(overview(view, width, height))
    return out.getvalue()


def test_progress_of_a_run_folder(tmp_path, trials):
    assert progress(trials[0].folder, "val/miou", True) == Progress(4, 4, 0.2, 0.3, 1.0)
    assert progress(trials[0].folder, "val/miou", False).best == 0.1
    assert progress(trials[2].folder, "val/miou", True) == Progress(0, 4)
    assert progress(tmp_path / "nowhere", "val/miou", True) == Progress()
    running = trials[4].folder
    with (running / "metrics.csv").open("a") as file:
        file.write("15,2,0.4,nan\n17,3,0.3,\n19,3,0.")  # the last line is being written
    assert progress(running, "val/miou", True) == Progress(3, 4, None, 0.35, 17 / 20)
    (running / "config.yaml").write_text("trainer: {max_epochs: -1, max_steps: 34}\n")
    assert progress(running, "val/miou", True) == Progress(3, None, None, 0.35, 0.5)
    assert Watched("val/miou", True).of(trials[4]).share == 0.5


def test_epochs_that_no_evaluation_follows_count(tmp_path):
    (tmp_path / "config.yaml").write_text("trainer: {max_epochs: 6, max_steps: -1}\n")
    rows = ["step,epoch,train/loss,val/miou", "4,0,1,", "5,0,1,", "8,1,1,"]
    for written, found in ((2, Progress(0, 6)), (4, Progress(1, 6, share=8 / 30))):
        (tmp_path / "metrics.csv").write_text("\n".join(rows[:written]) + "\n")
        assert progress(tmp_path, "val/miou", True) == found


def test_time_left():
    pace = Pace()
    for now, share in ((0, 0.0), (10, None), (30, 0.1), (40, 0.3), (50, 0.5)):
        pace.note(7, share, now)
    assert pace.left_s(7, 55) == pytest.approx(20)  # a fifth in ten seconds; the start-up does not count
    assert pace.left_s(8, 55) is None
    pace.note(7, 0.4, 60)  # it goes on from an earlier checkpoint
    assert pace.left_s(7, 60) is None
    assert whole_left_s([], [], 4, 2) is None
    assert whole_left_s([10, 30], [5, None], 4, 2) == pytest.approx((5 + 10 + 80) / 2)
    assert whole_left_s([10], [90], 0, 2) == 90  # nobody shares the last trial
    assert whole_left_s([], [5, 7], 0, 2) == 7


def test_table_shows_what_runs_and_what_is_best(tmp_path, trials):
    view = Status(a_sweep(tmp_path)).view(trials)
    text = drawn(view)
    lines = text.splitlines()
    assert lines[0] == "lr: 4 of 6 trials ended (1 running, 2 finished, 1 pruned, 1 failed, 1 waiting)"
    assert lines[1].startswith("best val/miou 0.5000, trial 1; 0 s gone; about ")
    assert [line.split()[0] for line in lines[3:]] == ["trial", "4", "1", "0", "3", "2"]
    assert lines[3].split() == ["trial", "lr", "model", "state", "epoch", "last", "best", "time", "left"]
    assert "0.02   tiny         running     2/4  0.3500  0.3500" in lines[4]
    assert "it's [bold]" in lines[5]


@pytest.mark.parametrize(("width", "height"), [(200, 50), (80, 24), (60, 12), (40, 8)])
def test_table_takes_one_screen_at_most(tmp_path, width, height):
    params = {f"a_section.with_a_long_name_{i}": 0.123456 * i for i in range(5)}
    trials = [a_trial(tmp_path, i, params, values=(i / 100,)) for i in range(58)]
    trials += [a_trial(tmp_path, 58 + i, params, state="running", values=()) for i in range(2)]
    text = drawn(Status(a_sweep(tmp_path, tuple(params), 100)).view(trials), width, height)
    lines = text.splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert [line.split()[0] for line in lines[4:7]] == ["58", "59", "57"], "what runs, then the best"
    if height < 50:
        assert lines[-1].startswith("and ")


def test_a_pipe_gets_a_line_per_event(tmp_path, trials, capsys):
    sweep = a_sweep(tmp_path)
    lines = Lines(sweep)
    lines.refresh(trials)
    assert capsys.readouterr().err == ""
    for trial, what in zip(trials, ("finished", "finished", "failed", "pruned", "started"), strict=True):
        lines.event(trial, what)
        lines.refresh(trials)
    lines.close()
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "trial 0 finished: val/miou 0.3000 after 1 min"
    assert said[2] == f"trial 2 failed: ValueError: no (after 1 min; see {trials[2].folder}/terminal.log)"
    assert said[3] == "trial 3 pruned: val/miou 0.0500 after epoch 1 of 4, 1 min"
    assert said[4] == "trial 4 started: optimizer.lr=0.02 model=tiny"
    assert said[5].startswith("lr: 4 of 6 trials ended")
    assert len(said) == 6
    view = Status(sweep).view(trials)
    assert status_line(view).endswith("; trial 4: epoch 2 of 4, 0.3500")
    assert event_line(view, trials[4], "resumed") == "trial 4 resumed: from epoch 2 of 4, attempt 1"


def test_a_terminal_gets_a_table_that_stays(tmp_path, trials):
    out = io.StringIO()
    table = LiveTable(a_sweep(tmp_path), Console(file=out, force_terminal=True, width=100, height=30))
    for _ in range(20):
        table.refresh(trials)
    table.event(trials[2], "failed")
    table.note("stopping")
    table.close()
    text = out.getvalue()
    assert "trial 2 failed: ValueError: no" in text
    assert text.count("trials ended") <= 8, "it is drawn twice a second at most"
    assert text.rindex("trials ended") > text.rindex("stopping")


@pytest.mark.parametrize(("encoding", "kind"), [("utf-8", LiveTable), ("latin-1", Lines)])
def test_a_terminal_without_bars_gets_lines(tmp_path, monkeypatch, encoding, kind):
    near, far = os.openpty()
    with open(far, "w", encoding=encoding) as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        assert isinstance(display(a_sweep(tmp_path)), kind)
    os.close(near)


def test_table_and_results_files(tmp_path, trials):
    results.record(a_sweep(tmp_path), trials)
    rows = list(csv.DictReader((tmp_path / "trials.csv").read_text().splitlines()))
    assert [row["state"] for row in rows] == ["finished", "finished", "failed", "pruned", "running"]
    best = dict(rows[1])
    assert best == {
        "number": "1", "state": "finished", "value": "0.5", "optimizer.lr": "0.01", "model": "it's [bold]",
        "seconds": "60.0", "epochs": "4", "attempts": "1", "folder": "trials/0001", "error": "",
    }  # fmt: skip
    assert rows[2]["error"] == "ValueError: no"
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["counts"] == {"waiting": 1, "running": 1, "finished": 2, "pruned": 1, "failed": 1}
    assert (found["best"]["number"], found["best"]["value"], found["is_over"]) == (1, 0.5, False)
    lowest = results.summary(a_sweep(tmp_path, direction="minimize"), trials)
    assert lowest["best"]["number"] == 0


def test_the_command_of_a_trial_works_from_any_folder_and_by_any_python(tmp_path, monkeypatch):
    python = tmp_path / "my env/bin/python"
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("PATH", "")
    trial = Trial(0, {}, ["model=tiny", "dataset.crop_size=[48,48]"], tmp_path)
    assert shlex.split(results.command_of(trial)) == [str(python), "-m", "segframe", "train", *trial.words]


def test_the_end_shows_the_best_and_its_command(tmp_path, trials, capsys):
    sweep = a_sweep(tmp_path, num_trials=5)
    results.show(sweep, trials)
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert "lr: 2 finished trials, by best val/miou" in lines
    assert "importance: none, 2 finished trials are too few, it takes 6" in lines
    assert f"trial 2 failed: ValueError: no; see {trials[2].folder}/terminal.log" in lines
    assert lines[-2] == "best: trial 1, val/miou 0.5000; train it again:"
    assert shlex.split(lines[-1])[-3:] == ["trainer=cpu", "optimizer.lr=0.01", 'model="it\'s [bold]"']
    assert "train" in shlex.split(lines[-1])
    assert not any("run.dir" in word for word in shlex.split(lines[-1]))
    pictures = [tmp_path / name for name in json.loads((tmp_path / "results.json").read_text())["pictures"]]
    assert [picture.name for picture in pictures] == [
        "history.png", "parallel_coordinates.png", "optimizer.lr.png", "model.png",
    ]  # fmt: skip
    times = [picture.stat().st_mtime_ns for picture in pictures]
    draw(sweep, trials)
    assert [picture.stat().st_mtime_ns for picture in pictures] == times, "nothing has changed, so nothing is drawn"
    trials[4].state, trials[4].value = "finished", 0.6
    draw(sweep, trials)
    assert pictures[0].stat().st_mtime_ns > times[0]


@pytest.mark.parametrize("is_hurried", [False, True])
def test_a_sweep_that_was_stopped_shows_what_has_ended(tmp_path, trials, capfd, is_hurried):
    assert verb._stopped(a_sweep(tmp_path, num_trials=5), trials, 2, is_hurried) == 130
    out, err = capfd.readouterr()
    assert err.splitlines()[-1] == "stopped; go on with: segframe sweep sweep=lr"
    assert (tmp_path / "pictures" / "history.png").exists() == ("train it again" in out) == (not is_hurried)


def test_a_sweep_in_which_all_failed(tmp_path, capsys):
    trials = [a_trial(tmp_path, i, {"model": f"m{i}"}, "failed", (), error="no") for i in range(8)]
    results.show(a_sweep(tmp_path, ("model",), 8), trials)
    text = capsys.readouterr().out
    assert "importance: none, no trial has finished" in text
    assert "and 3 more failed: 5, 6, 7" in text
    assert "train it again" not in text
    assert json.loads((tmp_path / "results.json").read_text())["best"] is None


def test_means_over_seeds(tmp_path, capsys):
    values = {(0.1, 0): 0.5, (0.1, 1): 0.7, (0.01, 0): 0.62, (0.01, 1): 0.6}
    trials = [a_trial(tmp_path, i, {"lr": lr, "seed": s}, values=(v,)) for i, ((lr, s), v) in enumerate(values.items())]
    trials.append(a_trial(tmp_path, 4, {"lr": 0.01, "seed": 2}, "failed", ()))
    first, second = over_seeds(trials, True)
    assert (first.params, first.trials, first.num_asked) == ({"lr": 0.01}, (2, 3), 3)
    assert first.mean == pytest.approx(0.61)
    assert first.deviation == pytest.approx(0.0141421, rel=1e-4)
    assert second.mean == pytest.approx(0.6)  # it holds the best single trial
    assert over_seeds(trials, False)[0] == second
    assert over_seeds([t for t in trials if t.params["seed"] == 0], True) == []
    assert over_seeds([trials[0], trials[3]], True) == [], "each has a rate of its own, as in a search over a range"
    results.show(a_sweep(tmp_path, ("lr", "seed"), 5), trials)
    assert "0.01  0.6100     0.0141  2 of 3" in capsys.readouterr().out


def test_importance_finds_what_matters(tmp_path):
    pytest.importorskip("optuna")
    trials = []
    for i in range(24):
        lr, other, model = 10 ** (-4 + (7 * i % 24) / 8), (5 * i % 24) / 24, "ab"[i % 2]
        value = 0.5 - 0.1 * (i % 24 * 7 % 24 / 8 - 1) ** 2 + 0.01 * (model == "a")
        trials.append(Trial(i, {"lr": lr, "other": other, "model": model}, [], tmp_path, "finished", 1, value))
    found = importance(trials, {"lr": Span(1e-4, 0.1, True)}, True)
    assert next(iter(found.shares)) == "lr"
    assert found.shares["lr"] > 0.6
    assert sum(found.shares.values()) == pytest.approx(1)
    assert "over 24 finished trials" in found.caption
    for trial in trials:
        trial.value = 0.5
    assert importance(trials, {}, True).caption == "all finished trials have the same value"


WANDB = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from segframe.sweep import results
from segframe.sweep.trial import read_all
from test_results import a_sweep
assert "torch" not in sys.modules
for _ in range(2):  # the second finds that nothing is new
    results.show(a_sweep(sys.argv[1]), read_all(Path(sys.argv[1])))
assert "torch" not in sys.modules
"""


def test_the_same_numbers_in_wandb(tmp_path, trials, wandb_records):
    pytest.importorskip("wandb")
    section = (
        "logger: {_target_: segframe.loggers.wandb.Wandb, project: streets, entity: null, mode: offline, group: null}"
    )
    with (trials[0].folder / "config.yaml").open("a") as file:
        file.write(f"{section}\n")
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    env |= {
        "HOME": str(tmp_path / "home"),
        "WANDB_BASE_URL": "http://127.0.0.1:9",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-c", WANDB, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    found = wandb_records(tmp_path)
    (run,) = {record.run.run_id: record.run for record in found if record.HasField("run")}.values()
    assert (run.project, run.run_group, run.job_type) == ("streets", tmp_path.name, "sweep")
    assert run.run_id == (tmp_path / "wandb_id").read_text().strip()
    (files,) = tmp_path.glob("wandb/offline-run-*/files")
    (row,) = [r.history for r in found if r.HasField("history")]
    logged = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in row.item}
    table = json.loads((files / logged["trials/path"]).read_text())
    assert table["columns"][:5] == ["number", "state", "value", "optimizer.lr", "model"]
    assert table["data"][1][:5] == [1, "finished", 0.5, 0.01, "it's [bold]"]
    assert (files / logged["pictures/history/path"]).read_bytes()[:4] == b"\x89PNG"
    summaries = {i.key: i.value_json for r in found if r.HasField("summary") for i in r.summary.update}
    assert json.loads(summaries["best"])["number"] == 1
