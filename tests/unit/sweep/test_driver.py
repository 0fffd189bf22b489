import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from segframe.config.options import ConfigError
from segframe.sweep.trial import read_all

HERE = Path(__file__).parent
GRID = ("optimizer.lr=0.1,0.2,99,0.3,0.4,0.5", "seed=0,1", "sweep.parallel=2", "sweep.retries=99")
SEARCH = ("sweep=optuna_lr", "sweep.trials=12", "sweep.parallel=2", "sweep.retries=99", "sweep.search.pruner=none")


@pytest.fixture(scope="module")
def stand_in():
    spec = importlib.util.spec_from_file_location("stand_in", HERE / "stand_in.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def killed_often(folder, kills, *words):
    """Runs a sweep whose drivers are killed; returns its trials."""
    command = [sys.executable, str(HERE / "stand_in.py"), str(folder), str(kills), "7", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return read_all(folder)


def counted_once(trials):
    """Checks what holds after any number of kills."""
    assert [trial.number for trial in trials] == list(range(12))
    for trial in trials:
        starts = [int(line) for line in (trial.folder / "starts").read_text().split()]
        rate = trial.params["optimizer.lr"]
        if rate > 50:
            assert (trial.state, trial.error) == ("failed", "FloatingPointError: the loss is not finite")
        else:
            assert (trial.state, trial.value, trial.error) == ("finished", pytest.approx(rate), None)
            assert starts == sorted(starts)  # goes on where it was
    return sum(trial.attempts for trial in trials)


def test_a_grid_whose_drivers_and_trials_are_killed(tmp_path):
    trials = killed_often(tmp_path, 10, *GRID)
    assert counted_once(trials) > 12
    assert [tuple(t.params.values()) for t in trials] == [(r, s) for r in (0.1, 0.2, 99, 0.3, 0.4, 0.5) for s in (0, 1)]


def test_a_search_whose_drivers_and_trials_are_killed(tmp_path):
    optuna = pytest.importorskip("optuna")
    trials = killed_often(tmp_path, 10, *SEARCH)
    assert counted_once(trials) > 12
    study = optuna.load_study(
        study_name=tmp_path.name,
        storage=optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(tmp_path / "optuna.log"))
        ),
    )
    assert [(t.number, t.value, t.params) for t in study.trials] == [(t.number, t.value, t.params) for t in trials]
    assert len({trial.params["optimizer.lr"] for trial in trials}) == 12
    # The same search again, killed never, draws the same while it draws at random.
    again = killed_often(tmp_path / "again", 0, *SEARCH)
    assert [t.params for t in again[:5]] == [t.params for t in trials[:5]]


def test_a_search_goes_on_with_more_trials_and_prunes_what_is_hopeless(tmp_path, stand_in):
    pytest.importorskip("optuna")
    words = [
        "sweep=optuna_random",
        "optimizer.lr=interval(0.1,0.9)",
        "sweep.search.pruner=median",
        f"sweep.dir={tmp_path}",
    ]
    words += ["sweep.search.startup_trials=3", "sweep.parallel=2"]
    first, _ = stand_in.drive([*words, "sweep.trials=4"])
    assert len(first) == 4
    shown = stand_in.Silent()
    trials, _ = stand_in.drive([*words, "sweep.trials=10"], stand_in.StandIn(2, pause_s=0.3), shown)
    assert [t.params for t in trials[:4]] == [t.params for t in first]
    assert not [event for event in shown.events if event[0] < 4]
    # Of the first four one may have reached its end, in milliseconds, before it was told.
    pruned = [trial for trial in trials if trial.state == "pruned" and trial.number >= 4]
    assert pruned
    for trial in pruned:
        assert trial.params["optimizer.lr"] < max(t.params["optimizer.lr"] for t in first)
        assert '"interrupted"' in (trial.folder / "results.json").read_text()
        assert trial.value < trial.params["optimizer.lr"]
    assert {trial.state for trial in trials} == {"finished", "pruned"}


@pytest.mark.parametrize("sweep", ["grid", "optuna_grid"])
def test_a_smaller_number_of_trials_leaves_the_others_as_they_are(tmp_path, stand_in, sweep):
    pytest.importorskip("optuna")
    words = [f"sweep={sweep}", "optimizer.lr=0.1,0.2,0.3", "sweep.parallel=2", f"sweep.dir={tmp_path}"]
    checkpoints = [tmp_path / "trials" / f"000{n}" / "checkpoints" / "last.ckpt" for n in (0, 1)]
    started = threading.Thread(target=_interrupt_when, args=checkpoints)
    started.start()
    stand_in.drive(words, stand_in.StandIn(2, pause_s=0.2))
    started.join()
    shown = stand_in.Silent()
    trials, _ = stand_in.drive([*words, "sweep.trials=1"], shown=shown)
    assert [trial.state for trial in trials] == ["finished", "interrupted"]
    assert shown.events == [(0, "resumed"), (0, "finished")]
    trials, _ = stand_in.drive(words)
    assert [trial.state for trial in trials] == ["finished"] * 3


def test_a_search_goes_on_in_a_folder_that_was_moved_and_whose_study_has_lost_its_end(tmp_path, stand_in):
    pytest.importorskip("optuna")
    words = ["sweep=optuna_random", "optimizer.lr=interval(0.1,0.9)"]
    first, _ = stand_in.drive([*words, "sweep.trials=2", f"sweep.dir={tmp_path / 'here'}"])
    moved = (tmp_path / "here").rename(tmp_path / "there")
    study = moved / "optuna.log"
    study.write_bytes(study.read_bytes()[:-40])
    shown = stand_in.Silent()
    trials, _ = stand_in.drive([*words, "sweep.trials=3", f"sweep.dir={moved}"], shown=shown)
    assert [(t.params, t.value, t.attempts) for t in trials[:2]] == [(t.params, t.value, t.attempts) for t in first]
    assert shown.events == [(1, "finished"), (2, "started"), (2, "finished")]


def test_a_trial_at_its_last_epoch_is_not_pruned_any_more(tmp_path, stand_in):
    pytest.importorskip("optuna")

    class Reporting(stand_in.StandIn):
        """Its trainings go on for a while behind their last epoch, as real ones do that write their report."""

        def start(self, *what):
            job = super().start(*what)
            poll, ends = job.poll, []
            job.poll = lambda: poll() if poll() is None or len(ends) > 2 else ends.append(1)
            return job

    words = ["sweep=optuna_grid", "optimizer.lr=0.9,0.1", f"sweep.dir={tmp_path}"]
    words += ["sweep.search.startup_trials=1", "sweep.search.warmup_epochs=5"]
    trials, _ = stand_in.drive(words, Reporting(1))
    assert [trial.state for trial in trials] == ["finished"] * 2


def test_a_trial_that_is_killed_again_and_again_has_failed(tmp_path, stand_in):
    class Killing(stand_in.StandIn):
        def start(self, *what):
            job = super().start(*what)
            if what[0] == 1:
                job.kill()
            return job

    trials, _ = stand_in.drive(["optimizer.lr=0.1,0.2,0.3", f"sweep.dir={tmp_path}"], Killing(1))
    assert [(trial.state, trial.attempts) for trial in trials] == [("finished", 1), ("failed", 2), ("finished", 1)]
    assert trials[1].error == "ended by SIGKILL, 2 attempts (sweep.retries)"


def test_a_trial_that_is_killed_often_and_gains_epochs_comes_to_its_end(tmp_path, stand_in):
    class Preempting(stand_in.StandIn):
        def start(self, number, words, folder, need):
            job = super().start(number, words, folder, need)
            before = _num_epochs(folder)
            while before < 4 and _num_epochs(folder) == before:
                time.sleep(0.005)
            if before < 4:
                job.kill()
            return job

    trials, _ = stand_in.drive(["optimizer.lr=0.1,0.2", f"sweep.dir={tmp_path}"], Preempting(1, pause_s=0.1))
    assert [trial.state for trial in trials] == ["finished"] * 2
    assert min(trial.attempts for trial in trials) > 2  # sweep.retries=1


def _num_epochs(folder):
    file = folder / "metrics.csv"
    return len(file.read_text().splitlines()) - 1 if file.exists() else 0


def test_ctrl_c_ends_trials_with_their_checkpoints_and_the_same_words_go_on(tmp_path, stand_in):
    words = ["optimizer.lr=0.1,0.2,0.3", "sweep.parallel=2", f"sweep.dir={tmp_path}"]
    started = threading.Thread(
        target=_interrupt_when, args=[tmp_path / "trials" / f"000{n}" / "checkpoints" / "last.ckpt" for n in (0, 1)]
    )
    started.start()
    trials, stopped = stand_in.drive(words, stand_in.StandIn(2, pause_s=0.2))
    started.join()
    assert stopped == 2
    assert [(trial.state, trial.error) for trial in trials] == [("interrupted", "ended by SIGTERM")] * 2
    shown = stand_in.Silent()
    trials, stopped = stand_in.drive(words, shown=shown)
    assert (stopped, [trial.state for trial in trials]) == (0, ["finished"] * 3)
    assert shown.events[:2] == [(0, "resumed"), (1, "resumed")]


def _interrupt_when(*files):
    while not all(file.exists() for file in files):
        time.sleep(0.01)
    os.kill(os.getpid(), 2)


def test_one_driver_at_a_time(tmp_path, stand_in):
    words = ["optimizer.lr=0.1,0.2", f"sweep.dir={tmp_path}"]
    code = f"import sys; sys.path.insert(0, {str(HERE)!r}); import stand_in; "
    code += f"stand_in.drive({words!r}, stand_in.StandIn(1, pause_s=9))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as first:
        while not (tmp_path / "sweep.json").exists():
            assert first.poll() is None
            time.sleep(0.01)
        with pytest.raises(ConfigError, match=rf"process {first.pid} on .* works on"):
            stand_in.drive(words)
        first.kill()


def test_a_metric_that_nobody_measures_ends_a_sweep_after_an_epoch(tmp_path, stand_in):
    words = ["optimizer.lr=0.1,0.2", "sweep.metric=val/mius", f"sweep.dir={tmp_path}"]
    shown, notes = stand_in.Silent(), []
    shown.note = notes.append
    with pytest.raises(ConfigError, match=r"sweep\.metric=val/mius: .*did you mean `val/miou`\?"):
        stand_in.drive(words, stand_in.StandIn(1, epochs=99), shown)
    assert notes == ["an error ends the sweep: the trials that run write their checkpoints first"]
    assert [trial.number for trial in read_all(tmp_path)] == [0]


def test_a_copy_of_a_trials_folder_is_no_trial(tmp_path, stand_in):
    trials, _ = stand_in.drive(["optimizer.lr=0.1,0.2", f"sweep.dir={tmp_path}"])
    shutil.copytree(trials[1].folder, tmp_path / "trials" / "0001 before")
    assert [trial.folder.name for trial in read_all(tmp_path)] == ["0000", "0001"]


def test_what_can_not_be_composed_fails_alone(tmp_path, stand_in, monkeypatch):
    words = ["optimizer.lr=0.1,0.2", f"sweep.dir={tmp_path}"]
    (tmp_path / "trials" / "0000").mkdir(parents=True)
    request = stand_in.read(words)

    def need(of):
        if "optimizer.lr=0.1" in of:
            raise ConfigError("no room\nfor it")
        return stand_in.Need(1, 1)

    (tmp_path / "trials" / "0000").rmdir()
    with stand_in.sweep_folder.locked(tmp_path):
        sweep = stand_in.sweep_folder.describe(request, 5)
        search = stand_in.Grid(tmp_path, request.axes, request.words, 2)
        driver = stand_in.Driver(sweep, search, stand_in.StandIn(1), need, stand_in.Silent(), lambda trials: None)
        assert driver.run([]) == 0
    assert [(trial.state, trial.error) for trial in search.trials()] == [
        ("failed", "no room for it"),
        ("finished", None),
    ]
