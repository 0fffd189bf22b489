import subprocess
import sys

import pytest

from segframe.config.options import ConfigError
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
