import ctypes
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from segframe.config.options import ConfigError

optuna = pytest.importorskip("optuna")

HERE = Path(__file__).parent
WORDS = ("sweep=optuna_lr", "sweep.trials=8", "sweep.parallel=2", "sweep.retries=99", "sweep.search.pruner=none")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("study.db", r"is no URL of a database, such as .* or sqlite:///FILE"),
        ("sqlite://", "keeps the study in memory alone; give a file"),
        ("sqlite:///:memory:", "keeps the study in memory alone; give a file"),
        ("mysql://me:secret@host/x", r"mysql://me:\*\*\*@host/x needs .* pip install mysqlclient"),
    ],
)
def test_databases_that_no_search_can_go_on_with(url, message, tmp_path):
    from segframe.sweep.optuna_storage import open_storage

    with pytest.raises(ConfigError, match=message):
        open_storage(url, tmp_path)


class Postgres:
    """A server on loopback in a folder of its own, which ends with this process."""

    def __init__(self, folder, programs):
        self.folder, self.programs, self.process = folder, programs, None
        # PostgreSQL refuses to run as root.
        self.user = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
        if os.getuid() != 0:
            self.user = {}
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        if self.user:
            shutil.chown(folder, "nobody")
        words = [programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", "me", "--no-sync"]
        subprocess.run(words, check=True, capture_output=True, cwd=folder, **self.user)

    def start(self):
        words = [self.programs / "postgres", "-D", self.folder / "data", "-h", "127.0.0.1", "-p", str(self.port)]
        words += ["-k", self.folder, "-c", "fsync=off"]
        library = ctypes.CDLL(None)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                words,
                stderr=log,
                stdout=log,
                cwd=self.folder,
                preexec_fn=lambda: library.prctl(1, signal.SIGINT),  # PR_SET_PDEATHSIG
                **self.user,
            )
        ready = [self.programs / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port), "-q"]
        deadline = time.monotonic() + 60
        while subprocess.run(ready, check=False).returncode != 0:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def stop(self, number=signal.SIGINT):
        self.process.send_signal(number)
        self.process.wait(30)


@pytest.fixture(scope="module")
def postgres():
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    found += [Path(path).parent for path in [shutil.which("initdb")] if path]
    if not found:
        pytest.skip("there is no PostgreSQL server on this machine")
    pytest.importorskip("psycopg")
    # Not below pytest's own folder, which another user may not enter.
    folder = Path(tempfile.mkdtemp(prefix="segframe-postgres-"))
    folder.chmod(0o755)
    server = Postgres(folder, found[0])
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def opened():
    """Opens the search of words; closes it in the end."""
    from segframe.sweep import folder
    from segframe.sweep.optuna_search import OptunaSearch
    from segframe.sweep.request import read

    searches = []

    def open_search(words):
        request = read(words)
        with folder.locked(request.folder):
            sweep = folder.describe(request, 5)
            folder.enter(request, sweep)
            searches.append(OptunaSearch(sweep, request.axes))
            return searches[-1]

    yield open_search
    for search in searches:
        search.close()


def test_a_study_in_postgresql_whose_drivers_trials_and_server_are_killed(tmp_path, postgres):
    url = f"postgresql+psycopg://me:unused@127.0.0.1:{postgres.port}/postgres"
    folder, words = tmp_path / "search", [*WORDS, f"sweep.search.storage={url}"]

    def drive(kills, *more):
        command = [sys.executable, str(HERE / "stand_in.py"), str(folder), str(kills), "3", *words, *more]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    first = drive(0)
    while not (folder / "trials" / "0002" / "trial.json").exists():
        assert first.poll() is None
        time.sleep(0.01)
    postgres.stop(signal.SIGQUIT)
    error = first.communicate(timeout=60)[1]
    assert "StudyLostError: the study's database does not answer" in error
    assert "unused" not in error.rpartition("StudyLostError")[2]
    postgres.start()
    last = drive(3)
    assert (last.communicate(timeout=120)[1], last.returncode) == ("", 0)
    trials = [json.loads((folder / "trials" / f"{n:04d}" / "trial.json").read_text()) for n in range(8)]
    assert len(list((folder / "trials").iterdir())) == 8
    storage = optuna.storages.RDBStorage(url)
    study = optuna.load_study(study_name="search", storage=storage)
    known = [(t.number, t.state.name, t.value, t.params) for t in study.trials]
    storage.remove_session()
    storage.engine.dispose()
    assert known == [(n, "COMPLETE", t["value"], t["params"]) for n, t in enumerate(trials)]
    assert [t["value"] for t in trials] == pytest.approx([t["params"]["optimizer.lr"] for t in trials])


def test_a_study_is_one_folders(tmp_path, postgres, opened):
    words = [*WORDS, f"sweep.search.storage=postgresql+psycopg://me@127.0.0.1:{postgres.port}/postgres"]
    assert opened([*words, f"sweep.dir={tmp_path / 'a' / 'mine'}"]).ask().number == 0
    with pytest.raises(ConfigError, match=f"belongs to the sweep folder {tmp_path / 'a' / 'mine'}"):
        opened([*words, f"sweep.dir={tmp_path / 'b' / 'mine'}"])


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql+psycopg://me:secret@127.0.0.1:1/x", "can't be used: .*refused"),
        ("postgrsql://me:secret@host/x", "is no URL of a database"),
        ("postgresql+psycopg://me:secret@cret@127.0.0.1/x", r"me:\*\*\*@127.0.0.1/x: .* write @ as %40"),
        ("nonsense", "is no URL of a database"),
        ("sqlite:////nowhere/at/all.db", "can't be used: unable to open database file"),
    ],
)
def test_a_database_that_is_not_there(tmp_path, url, message, opened):
    started = time.monotonic()
    with pytest.raises(ConfigError, match=message) as caught:
        opened([*WORDS, f"sweep.search.storage={url}", f"sweep.dir={tmp_path}"])
    assert "secret" not in str(caught.value)
    assert time.monotonic() - started < 10


def test_a_study_that_was_deleted_is_missed(tmp_path, opened):
    words = [*WORDS, f"sweep.dir={tmp_path}"]
    assert opened(words).ask().number == 0
    (tmp_path / "optuna.log").unlink()
    with pytest.raises(ConfigError, match="holds 1 trials that the study does not know"):
        opened(words)


def test_a_line_that_was_half_written_is_dropped(tmp_path, opened):
    words = [*WORDS, f"sweep.dir={tmp_path}"]
    asked = opened(words).ask()
    with (tmp_path / "optuna.log").open("a") as file:
        file.write('{"op_code": 4, "worker')
    again = opened(words)
    assert [(t.number, t.params) for t in again.unfinished()] == [(0, asked.params)]
    assert again.ask().number == 1


def test_values_that_a_study_does_not_hold_stand_for_themselves(tmp_path, opened):
    words = ["sweep=optuna_grid", "dataset.crop_size=[48,48],[64,64]", "x=1,null,true,'1'", f"sweep.dir={tmp_path}"]
    search = opened(words)
    found = [search.ask().params for _ in range(8)]
    assert found == [{"dataset.crop_size": s, "x": x} for s in ([48, 48], [64, 64]) for x in (1, None, True, "1")]
    assert search.ask() is None
    assert [trial.params for trial in opened(words).trials()] == found
