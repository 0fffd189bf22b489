from __future__ import annotations

import json

import pytest

from segframe import rendezvous, restarts
from segframe.checkpoint_io import write_checkpoint

LAUNCHER = ("RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS")
LAUNCHER += ("SLURM_RESTART_COUNT", "SLURM_JOB_ID", "SEGFRAME_SUPERVISED")
VALUES = {"strategy": {"start_timeout_s": 10}}


@pytest.fixture
def launcher(monkeypatch):
    """Sets a launcher's variables for a run of one process."""
    for name in LAUNCHER:
        monkeypatch.delenv(name, raising=False)

    def put(**variables):
        for name, value in {"RANK": 0, "WORLD_SIZE": 1, **variables}.items():
            monkeypatch.setenv(name, str(value))

    yield put
    rendezvous.leave()


@pytest.fixture
def folder(tmp_path):
    """A run folder with two checkpoints."""
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    for name in ("last.ckpt", "previous.ckpt"):
        write_checkpoint({"state_dict": {}, "of": name}, tmp_path / "run/checkpoints" / name)
    return tmp_path / "run"


def tear(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_a_torn_checkpoint_gives_way_to_the_one_before(folder, launcher, capsys):
    last, previous = (folder / "checkpoints" / name for name in ("last.ckpt", "previous.ckpt"))
    assert restarts.last_whole(folder) == last
    assert capsys.readouterr().err == ""
    tear(last)
    assert restarts.last_whole(folder) == last  # a user is asked
    launcher()
    assert restarts.last_whole(folder) == previous
    assert capsys.readouterr().err == f"{last} is torn; goes on with {previous}, the one before.\n"


@pytest.mark.parametrize("previous_is", ["torn", "gone"])
def test_without_a_whole_one_the_last_is_left_to_its_reader(folder, launcher, previous_is):
    last, previous = (folder / "checkpoints" / name for name in ("last.ckpt", "previous.ckpt"))
    launcher()
    tear(last)
    previous.unlink() if previous_is == "gone" else tear(previous)
    assert restarts.last_whole(folder) == last


def test_a_folder_without_checkpoints_has_none(tmp_path, launcher):
    assert restarts.last_whole(tmp_path) is None


def test_a_torn_checkpoint_is_told_by_one_rank_alone(folder, on_ranks):
    tear(folder / "checkpoints/last.ckpt")
    code = f"from pathlib import Path; from segframe import restarts; print(restarts.last_whole(Path({str(folder)!r})))"
    _, said, _ = on_ranks(code)
    assert said[0].count("is torn") == 1
    assert said[1] == f"{folder / 'checkpoints/previous.ckpt'}\n"


@pytest.mark.parametrize(
    ("variables", "goes_on"),
    [
        ({}, False),
        ({"TORCHELASTIC_RESTART_COUNT": 1}, True),
        ({"SLURM_RESTART_COUNT": 1}, True),
        ({"SLURM_RESTART_COUNT": 0, "SLURM_JOB_ID": 7}, False),
        ({"TORCHELASTIC_RUN_ID": "job"}, True),  # the folder is of that job
        ({"TORCHELASTIC_RUN_ID": "another"}, False),
        ({"TORCHELASTIC_RESTART_COUNT": 1, "SEGFRAME_SUPERVISED": 1}, False),
    ],
)
def test_a_start_goes_on_where_its_launcher_has_started_it_again(folder, launcher, capsys, variables, goes_on):
    (folder / "environment.json").write_text(json.dumps({"job": "job"}))
    launcher(**variables)
    found = restarts.folder_to_go_on_with(VALUES, str(folder), "")
    assert found == (str(folder) if goes_on else None)
    assert capsys.readouterr().err == (f"started again; goes on with {folder}\n" if goes_on else "")


def test_a_restart_before_the_first_checkpoint_begins_as_asked(tmp_path, launcher):
    launcher(TORCHELASTIC_RESTART_COUNT=1)
    assert restarts.folder_to_go_on_with(VALUES, str(tmp_path), "") is None


def test_a_resumed_run_goes_on_in_its_own_folder(folder, launcher):
    launcher(TORCHELASTIC_RESTART_COUNT=1)
    asked = str(folder / "checkpoints/best.ckpt")
    assert restarts.folder_to_go_on_with(VALUES, "", asked) == str(folder)


@pytest.mark.parametrize(
    ("variables", "hint"),
    [
        ({"TORCHELASTIC_MAX_RESTARTS": 0}, ""),
        ({"TORCHELASTIC_MAX_RESTARTS": 2}, "A restart by torchrun would begin a new run: give run.dir=FOLDER"),
        ({"TORCHELASTIC_RESTART_COUNT": 1}, "This restart begins a new run: give run.dir=FOLDER"),
    ],
)
def test_a_run_without_a_known_folder_is_told_what_a_restart_does(launcher, capsys, variables, hint):
    launcher(**variables)
    assert restarts.folder_to_go_on_with(VALUES, "", "") is None
    told = capsys.readouterr().err
    assert told.startswith(hint)
    assert bool(told) == bool(hint)


def test_outside_of_launchers_nothing_is_asked(launcher, folder):
    assert restarts.folder_to_go_on_with({}, str(folder), "") is None


def test_a_checkpoint_that_one_machine_alone_sees_is_refused(folder, on_ranks):
    code = (
        "import os\nfrom segframe import rendezvous, restarts\n"
        f"run = {str(folder)!r} if os.environ['RANK'] == '1' else '/nowhere'\n"
        "os.environ['TORCHELASTIC_RESTART_COUNT'] = '1'\n"
        f"try: restarts.folder_to_go_on_with({VALUES!r}, run, '')\n"
        "except restarts.ConfigError as error: print(error)\n"
        "finally: rendezvous.leave()"  # rank 0 has the store that rank 1 still reads
    )
    codes, said, _ = on_ranks(code)
    assert codes == [0, 0], said
    assert "holds a checkpoint on another machine and none on this one (seen from rank 0" in said[0]
    assert "holds a checkpoint on this machine and none on another (seen from rank 1" in said[1]


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, None),
        ({"TORCHELASTIC_RUN_ID": "none"}, None),
        ({"TORCHELASTIC_RUN_ID": "trial"}, "trial"),
        ({"SLURM_JOB_ID": 7}, None),  # without requeueing nothing starts it again
        ({"SLURM_JOB_ID": 7, "SLURM_RESTART_COUNT": 0}, "slurm 7"),
    ],
)
def test_a_job_is_known_by_its_launcher_s_name(launcher, variables, name):
    launcher(**variables)
    assert restarts.job_name() == name
