"""The command line as a user meets it: exit codes, help, and no torch where none is needed."""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CPU_BOUND_S = 1.5


def _segframe(*words, cwd=ROOT, script=("-m", "segframe")):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *script, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "strategy=dpp"], "did you mean `ddp`"),
        (["trian"], "did you mean `train`"),
        (["strategy=ddp"], "segframe train strategy=ddp"),
        (["train", "--typo"], "no such flag"),
        (["train", "--config-dir"], "needs a folder"),
        (["train", "resume=nowhere"], "nowhere"),
        (["evaluate"], "run=outputs"),
        (["evaluate", "run=nowhere"], "nowhere"),
        (["evaluate", "run=x", "checkpoint=nofile"], "checkpoint=nofile"),
        (["doctor", "model=tiny"], "no further words"),
        (["train", "--help", "modle"], "did you mean `model`"),
    ],
    ids=" ".join,
)
def test_bad_words_exit_with_2_and_one_message(words, said, tmp_path):
    done = _segframe(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.startswith("segframe: ")
    assert "Traceback" not in done.stderr


def test_help_lists_groups_options_and_keys():
    done = _segframe("--help")
    assert done.returncode == 0
    assert done.stdout == _segframe("train", "--help").stdout == _segframe("--help", script=["train.py"]).stdout
    for file in (ROOT / "conf").glob("*/*.yaml"):
        assert file.stem in done.stdout
    for word in ("strategy", "optimizer.lr", "evaluate", "doctor", "1.0e-3"):
        assert word in done.stdout


def test_help_of_a_group_explains_its_options():
    done = _segframe("train", "--help", "strategy")
    assert (ROOT / "conf/strategy/ddp.yaml").read_text().splitlines()[0].lstrip("# ") in done.stdout


def test_version_and_composed_configuration():
    assert _segframe("--version").stdout.startswith("segframe 0.")
    done = _segframe("optimizer.lr=0.25", "--cfg", script=["train.py"])
    assert done.returncode == 0, done.stderr
    assert "lr: 0.25" in done.stdout


@pytest.mark.parametrize("words", [["strategy=dpp"], ["optimizer.lr=fast"], ["--help"]], ids=" ".join)
def test_errors_and_help_come_before_torch_and_soon(words):
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        _segframe(*words, script=["train.py"])
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < CPU_BOUND_S
    code = f"from segframe.cli import main; main({['train', *words]!r}); import sys; sys.exit('torch' in sys.modules)"
    assert _segframe(script=["-c", code]).returncode == 0


def test_a_closed_output_is_no_other_file(tmp_path):
    code = (
        "import os, sys; from segframe.cli import main; assert main(['--version']) == 0\n"
        "first = os.open(os.devnull, os.O_RDONLY); print(first, file=sys.stderr); print('lost')"
    )
    command = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(code)} >&- <&-"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "3\n")
