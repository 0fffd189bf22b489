from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from segframe import launch
from segframe.launch import start_ranks
from segframe.ranks import ENDED_BY_ANOTHER

RANK = "import os, sys, time, signal; rank = int(os.environ['RANK'])\n"


def test_ranks_know_their_place_and_share_the_cores(on_ranks, monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "7")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    code = (
        "import torch; from segframe.ranks import place; print(*place(), torch.get_num_threads(), os.environ['MORE'])\n"
    )
    code += "print(sorted(key for key in os.environ if key.startswith(('SLURM', 'TORCHELASTIC'))))"
    codes, said, team = on_ranks(RANK + code, MORE="more", OMP_NUM_THREADS="3")
    assert codes == [0, 0]
    assert said == ["0 2 0 2 0 3 more\n[]\n", "1 2 1 2 0 3 more\n[]\n"]
    assert (team.exit_code, team.first_failed) == (0, None)


def test_lightning_knows_the_rank_before_there_is_a_trainer(on_ranks):
    code = "from pytorch_lightning.utilities.rank_zero import rank_zero_only as only; print(only.rank, only(int)('5'))"
    assert on_ranks(code)[1] == ["0 5\n", "1 None\n"]


def test_ranks_don_t_run_the_script_that_starts_them(on_ranks, tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text(f"open({str(tmp_path / 'again')!r}, 'w')")
    main = types.ModuleType("__main__")
    main.__file__, main.__spec__ = str(script), None
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert on_ranks("print('here')")[:2] == ([0, 0], ["here\n"] * 2)
    assert not (tmp_path / "again").exists()


def test_a_long_name_of_the_folder_for_temporary_files_is_no_obstacle(tmp_path):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    code = "from segframe import launch; launch.PRELOADED = (); print(launch.start_ranks(print, ('here',), 2).wait(60))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(long)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "here\nhere\n[0, 0]\n"), done.stderr


def test_without_a_log_ranks_write_where_this_process_does(capfd):
    assert start_ranks(print, ("here",), 2).wait(60) == [0, 0]
    assert capfd.readouterr().out == "here\nhere\n"


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ("sys.exit(7)", 7),
        ("raise ValueError('broken')", 1),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137),
        ("os.abort()", 134),
    ],
)
def test_the_first_failure_ends_all(on_ranks, monkeypatch, first, code):
    monkeypatch.setattr(launch, "GRACE_S", 0.2)
    deaf = f"signal.signal({int(launch.END)}, signal.SIG_IGN); time.sleep(60)"
    began = time.monotonic()
    codes, said, team = on_ranks(RANK + f"if rank == 1: {first}\nelse: {deaf}")
    assert codes[0] == -signal.SIGKILL
    assert (team.first_failed, team.exit_code) == (1, code)
    assert ("broken" in said[1]) == (code == 1)
    assert time.monotonic() - began < 20


def test_a_rank_that_waits_learns_that_another_has_failed(on_ranks, monkeypatch):
    monkeypatch.setattr(launch, "GRACE_S", 0.5)
    waits = "try: time.sleep(60)\n  except AnotherRankError as error: print(error); raise"
    head = RANK + "from segframe.ranks import AnotherRankError\n"
    codes, said, team = on_ranks(head + f"if rank == 1: os.kill(os.getpid(), 9)\nelse:\n  {waits}")
    assert codes == [ENDED_BY_ANOTHER, -signal.SIGKILL]
    assert (team.first_failed, team.exit_code) == (1, 137)
    assert said[0] == "another rank has failed\n"


def test_ranks_that_end_in_time_are_not_killed(on_ranks):
    codes, _, team = on_ranks(RANK + f"time.sleep(0.3 * rank); sys.exit([{ENDED_BY_ANOTHER}, 5, 0][rank])", 3)
    assert codes == [ENDED_BY_ANOTHER, 5, 0]
    assert (team.first_failed, team.exit_code) == (1, 5)


def test_a_rank_that_was_told_to_stop_gives_the_others_longer(on_ranks, monkeypatch):
    monkeypatch.setattr(launch, "GRACE_S", 0.1)
    codes, _, team = on_ranks(RANK + "if rank == 0: time.sleep(1)\nsys.exit(143)")
    assert codes == [143, 143]
    assert team.exit_code == 143


def test_a_timeout_names_who_still_ran(on_ranks):
    with pytest.raises(TimeoutError, match=r"ranks 1 had not ended after 0\.5 s"):
        on_ranks(RANK + "time.sleep(60 * rank)", timeout_s=0.5)


def is_running(pid: int) -> bool:
    """Whether a process is there and is no zombie, which a fork server may keep for a while."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads states of processes from /proc")
def test_ranks_end_with_the_process_that_started_them(tmp_path):
    import multiprocessing

    code = (
        "import os, time, pathlib; pathlib.Path({!r}, os.environ['RANK']).write_text(str(os.getpid())); time.sleep(99)"
    )
    start = "from segframe.launch import start_ranks; import time\nstart_ranks(exec, (code, {}), 2); time.sleep(99)"
    context = multiprocessing.get_context("forkserver")
    supervisor = context.Process(target=exec, args=(start, {"code": code.format(str(tmp_path))}))
    supervisor.start()
    deadline = time.monotonic() + 60
    while not all((tmp_path / rank).exists() and (tmp_path / rank).read_text() for rank in "01"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    pids = [int((tmp_path / rank).read_text()) for rank in "01"]
    assert all(map(is_running, pids))
    supervisor.kill()
    supervisor.join()
    deadline = time.monotonic() + 5
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
