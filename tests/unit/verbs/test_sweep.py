import os
import subprocess
import sys

import pytest

from segframe.config.options import ConfigError
from segframe.sweep import folder
from segframe.sweep.request import read
from segframe.sweep.trial import Trial, trial_folder
from segframe.verbs import sweep

HOLD = """
import sys
from segframe.sweep import folder
from segframe.sweep.request import read
request = read(sys.argv[1:])
with folder.locked(request.folder):
    folder.enter(request, folder.describe(request, 2))
    print("begun", flush=True)
    sys.stdin.read()
"""


def test_a_sweep_that_another_process_begins_while_words_are_checked_is_left_alone(tmp_path, monkeypatch, small):
    words = [*small, "seed=0,1", f"sweep.dir={tmp_path}"]
    check, others = sweep.check, []

    def check_slowly(*what):
        check(*what)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        others.append(subprocess.Popen([sys.executable, "-c", HOLD, *words], **pipes))
        assert others[0].stdout.readline() == b"begun\n"

    monkeypatch.setattr(sweep, "check", check_slowly)
    try:
        with pytest.raises(ConfigError, match=r"process \d+ on .* works on"):
            sweep.main(words)
    finally:
        others[0].communicate()
    assert not (tmp_path / "trials").exists()


def test_words_that_are_wrong_are_named_once(tmp_path, small):
    with pytest.raises(ConfigError, match=r"^optimizer\.lr=abc is not allowed"):
        sweep.main([*small, "optimizer.lr=abc,1", f"sweep.dir={tmp_path}"])


def test_trials_beyond_a_smaller_number_are_not_told_as_ended(tmp_path, small, capsys):
    words = [*small, "seed=0,1,2", f"sweep.dir={tmp_path}"]
    request = read(words)
    with folder.locked(tmp_path):
        folder.enter(request, folder.describe(request, 2))
    for number, state in enumerate(("finished", "interrupted")):
        Trial(number, {"seed": number}, [], trial_folder(tmp_path, number), state, 1, 0.5).write()
    assert sweep.main([*words, "sweep.trials=1"]) == 0
    assert f"1 trials of {tmp_path} have ended, 1 have not; a larger sweep.trials" in capsys.readouterr().err


def test_a_full_disk_is_told_with_the_command_that_goes_on(tmp_path, small, capsys):
    words = [*small, "seed=0,1", f"sweep.dir={tmp_path}"]
    request = read(words)
    with folder.locked(tmp_path):
        folder.enter(request, folder.describe(request, 2))
    for number in range(2):
        Trial(number, {"seed": number}, [], trial_folder(tmp_path, number), "finished", 1, 0.5).write()
    (tmp_path / f".trials.csv.{os.getpid()}.tmp").symlink_to("/dev/full")
    assert sweep.main(words) == 1
    told = capsys.readouterr().err
    assert "No space left on device; when that is mended, go on with: " in told
    assert told.endswith(f"seed=0,1 sweep.dir={tmp_path}\n")
