"""The launch files, run as a user would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
SHELL_FILES = sorted([*SCRIPTS.glob("*.sh"), *SCRIPTS.glob("*.sbatch")])

pytestmark = pytest.mark.xdist_group("nodes")


def run(script: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(SCRIPTS / script), *words],
        env=dict(os.environ) | {"OMP_NUM_THREADS": "1", "PYTHON": sys.executable} | variables,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize("path", SHELL_FILES, ids=lambda path: path.name)
def test_launch_files_are_clean(path):
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(["shellcheck", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_torchrun_on_one_node_trains_and_the_same_line_goes_on(small, rows, tmp_path):
    words = [*small, "strategy=ddp", f"run.dir={tmp_path / 'run'}"]
    done = run("torchrun.sh", *words, NPROC="2")
    assert done.returncode == 0, done.stderr
    assert "cpu x 2" in done.stderr
    assert [row["step"] for row in rows(tmp_path / "run")] == [str(step) for step in range(1, 9)]
    assert (tmp_path / "run/logs/rank-1.log").exists()
    again = run("torchrun.sh", *words, "trainer.max_epochs=3", NPROC="2")
    assert again.returncode == 0, again.stderr
    assert "started again; goes on with" in again.stderr
    assert [row["step"] for row in rows(tmp_path / "run")] == [str(step) for step in range(1, 13)]


def test_torchrun_on_several_nodes_runs_on_one(small, rows, tmp_path):
    words = [*small, "strategy=ddp", f"run.dir={tmp_path / 'run'}"]
    done = run("torchrun.sh", *words, STORE=str(tmp_path / "store"), NNODES="1", NPROC="2")
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path / "run")) == 8


@pytest.mark.parametrize(
    ("words", "nodes", "said"),
    [
        (["strategy=ddp"], "1", "add run.dir=FOLDER"),
        (["run.dir=x"], "2", "HOST (or STORE) says where NNODES=2 machines"),
    ],
)
def test_what_is_missing_is_asked_for(words, nodes, said):
    done = run("torchrun.sh", *words, NNODES=nodes)
    assert done.returncode == 2
    assert said in done.stderr
