"""Runs of several ranks as they are started by segframe, torchrun and srun: what users see, and how all of them end."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DDP = ("strategy=ddp", "trainer.devices=2")
BAD = """
    import os, time
    from pathlib import Path
    import pytorch_lightning as pl
    from segframe.ranks import place

    class Bad(pl.Callback):
        def __init__(self, rank: int = 1, what: str = "", once: str = "", at_end: bool = False) -> None:
            self.rank, self.what, self.once, self.at_end = rank, what, once, at_end

        def on_fit_end(self, *arguments):
            if place().rank == self.rank and self.at_end:
                exec(self.what)

        def on_train_batch_end(self, trainer, *arguments):
            if place().rank != self.rank or trainer.global_step != 3 or self.at_end:
                return
            if self.once and Path(self.once).exists():
                return
            if self.once:
                Path(self.once).touch()
            exec(self.what)
"""


@pytest.fixture
def launched(alone, capfd):
    """Runs a command line in this process, whose ranks write to the same terminal."""
    from segframe.cli import main

    def run(*words: str) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def bad(tmp_path, monkeypatch):
    """Returns the words of a callback that does something bad on one rank after its third step."""
    (tmp_path / "bad_rank.py").write_text(textwrap.dedent(BAD))
    (tmp_path / "conf/callbacks").mkdir(parents=True)
    (tmp_path / "conf/callbacks/bad.yaml").write_text(
        "# does something bad on one rank\n"
        "defaults: [default]\n"
        "bad:\n  _target_: bad_rank.Bad\n  rank: 1     # where\n  what: ''    # code\n  once: ''    # a mark\n"
        "  at_end: false  # when\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    conf = tmp_path / "conf"
    return lambda what, rank=1: (
        f"--config-dir={conf}", "callbacks=bad", f"callbacks.bad.what='{what}'", f"callbacks.bad.rank={rank}"
    )  # fmt: skip


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_two_ranks_say_what_one_does_and_leave_this_process_as_it_was(launched, small, tmp_path):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    code, said, told = launched("train", *small, *DDP, f"run.dir={tmp_path / 'run'}")
    assert code == 0, told
    assert told.count("run folder:") == 1
    assert "cpu x 2" in told
    assert said.count("best val/miou") == 1
    lines = [line for line in told.splitlines() if line.strip() and "epoch" not in line]
    assert len(lines) == 2, told  # the folder and the description
    assert results(tmp_path / "run")["status"] == "finished"
    first, second = ((tmp_path / f"run/logs/rank-{rank}.log").read_text() for rank in (0, 1))
    assert "best val/miou" in first
    assert "epoch 2/2  step 8" in first
    assert "%|" not in first
    assert second == ""
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert mask == signal.pthread_sigmask(signal.SIG_BLOCK, ())

    code, said, told = launched("evaluate", f"run={tmp_path / 'run'}", "checkpoint=last")
    assert code == 0, told
    final = results(tmp_path / "run")["metrics"]["val/miou"]["final"]
    assert said.count("classes (") == 1
    assert f"{final:.4f}" in said


def test_the_rank_that_fails_first_tells_why_and_no_other_does(launched, small, tmp_path, bad):
    began = time.monotonic()
    code, _, told = launched("train", *small, *DDP, *bad('raise KeyError("lost")'), f"run.dir={tmp_path / 'run'}")
    assert code == 1
    assert told.count("Traceback") == 1
    assert told.count("KeyError: 'lost'") == 1
    assert told.index("rank 1 (host ") < told.index("Traceback")
    assert "Connection" not in told
    found = results(tmp_path / "run")
    assert (found["status"], found["failed_rank"]) == ("failed", 1)
    assert "KeyError: 'lost'" in (tmp_path / "run/error.txt").read_text()
    assert "KeyError: 'lost'" in (tmp_path / "run/logs/rank-1.log").read_text()
    assert time.monotonic() - began < 60


def test_a_failure_while_rank_0_draws_is_no_interruption(launched, small, tmp_path, bad):
    words = (*bad('raise KeyError("lost")'), "callbacks.bad.at_end=true", "trainer.max_epochs=1")
    code, _, told = launched("train", *small, *DDP, *words, f"run.dir={tmp_path / 'run'}")
    assert code == 1
    assert told.count("KeyError: 'lost'") == 1
    assert "stopped by" not in told
    found = results(tmp_path / "run")
    assert (found["status"], found["failed_rank"]) == ("failed", 1)


def test_a_run_that_had_finished_ends_on_all_ranks_with_what_it_had(launched, small, tmp_path):
    run = tmp_path / "run"
    code, _, told = launched("train", *small, *DDP, f"run.dir={run}", "trainer.max_epochs=1")
    assert code == 0, told
    before = results(run)
    code, _, told = launched("train", f"resume={run}", "strategy=fsdp", "trainer.devices=2")
    assert code == 0, told
    assert told.count("the run had finished") == 1
    assert results(run) == before
    (run / "results.json").unlink()
    code, said, told = launched("train", f"resume={run}", "strategy=fsdp", "trainer.devices=2")
    assert code == 0, told
    assert said.count("best val/miou") == 1
    assert results(run)["metrics"]["val/miou"]["final"] == pytest.approx(before["metrics"]["val/miou"]["final"])


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_was_killed_is_named(launched, small, tmp_path, bad, rank):
    words = bad("os.kill(os.getpid(), 9)", rank)
    code, _, told = launched("train", *small, *DDP, *words, f"run.dir={tmp_path / 'run'}")
    assert code == 137
    assert told.count(f"error: rank {rank} was killed by SIGKILL") == 1
    assert "Traceback" not in told
    found = results(tmp_path / "run")
    assert (found["status"], found["failed_rank"], found["error"]) == (
        "failed", rank, f"rank {rank} was killed by SIGKILL"
    )  # fmt: skip


def test_a_rank_that_hangs_leaves_every_rank_s_stack(launched, small, tmp_path, bad):
    words = (*bad("time.sleep(600)"), "strategy.timeout_s=4")
    code, _, told = launched("train", *small, *DDP, *words, f"run.dir={tmp_path / 'run'}")
    assert code == 1
    assert told.count("waited 4 s for the other ranks") == 1
    assert str(tmp_path / "run/logs") in told
    assert "Traceback" not in told
    assert "in all_reduce" in (tmp_path / "run/logs/rank-0.log").read_text()
    stack = (tmp_path / "run/logs/rank-1.log").read_text()
    assert "bad_rank.py" in stack
    assert "in all_reduce" not in stack


def test_what_all_ranks_refuse_is_said_once(launched, small, tmp_path):
    code, _, told = launched("train", *small, *DDP, "dataset.num_classes=4", f"run.dir={tmp_path / 'run'}")
    assert code == 1
    assert told.count("Synthetic has 6 classes") == 1
    assert "Traceback" not in told


def test_ranks_of_srun_find_each_other(on_ranks, small, tmp_path):
    code = f"""
        import os, sys
        from segframe.cli import main
        rank = os.environ["RANK"]
        for name in list(os.environ):
            if name.startswith(("RANK", "WORLD", "LOCAL", "GROUP", "MASTER", "SEGFRAME_STORE")): del os.environ[name]
        os.environ.update(SLURM_PROCID=rank, SLURM_LOCALID=rank, SLURM_NODEID="0", SLURM_STEP_ID="0", SLURM_NTASKS="2")
        os.environ.update(SLURM_TASKS_PER_NODE="2", SLURM_JOB_NODELIST="localhost", SLURM_JOB_ID="{os.getpid()}")
        sys.exit(main(["train", *{small!r}, "strategy=ddp", "trainer.max_epochs=1", "run.dir={tmp_path / "run"}"]))
    """
    codes, said, _ = on_ranks(textwrap.dedent(code), timeout_s=120)
    assert codes == [0, 0], said
    assert "cpu x 2" in said[0]
    assert "cpu x 2" not in said[1]
    assert results(tmp_path / "run")["status"] == "finished"


def test_torchrun_goes_on_after_a_restart(small, tmp_path, bad, rows):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    words = (*small, "strategy=ddp", "callbacks.checkpoints.every_n_steps=1", *bad("os.kill(os.getpid(), 9)"))
    own = (f"callbacks.bad.once={tmp_path / 'mark'}", f"run.dir={tmp_path / 'run'}")
    done = subprocess.run(
        [*command, str(ROOT / "train.py"), *words, *own],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"started again; goes on with {tmp_path / 'run'}" in done.stderr
    assert results(tmp_path / "run")["status"] == "finished"
    assert [row["step"] for row in rows(tmp_path / "run") if row["train/loss"]] == [str(step) for step in range(1, 9)]


def test_ctrl_c_in_a_terminal_ends_all_ranks_with_one_checkpoint(small, tmp_path):
    words = [*small, *DDP, "trainer.max_epochs=4000", f"run.dir={tmp_path / 'run'}"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["OMP_NUM_THREADS"] = "1"
        os.execv(sys.executable, [sys.executable, str(ROOT / "train.py"), *words])
    said, pressed, deadline = b"", False, time.monotonic() + 120
    while True:
        try:
            said += os.read(terminal, 4096)
        except OSError:  # the last process has closed it
            break
        if not pressed and b"epoch 2/4000" in said:
            os.write(terminal, b"\x03")
            pressed = True
        assert time.monotonic() < deadline, said
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + signal.SIGINT
    assert said.count(b"stopped by SIGINT, with a checkpoint of the last step") == 1
    assert said.count(b"go on with:") == 1
    assert b"Traceback" not in said
    assert results(tmp_path / "run")["status"] == "interrupted"
    assert (tmp_path / "run/checkpoints/last.ckpt").exists()
