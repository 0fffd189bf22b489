from __future__ import annotations

import io

import pytest

from segframe import logs
from segframe.logs import Tee

SPEAK = """
import os, sys
from pathlib import Path
from segframe import logs
print("before", flush=True)
with logs.kept(Path({folder!r})):
    print("said")
    print("told", file=sys.stderr)
    os.system("echo from a program")
    print("an error", file=logs.terminal(), flush=True)
print("after", flush=True)
"""


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (["one\ntwo\n"], "one\ntwo\n"),
        (["o", "ne", "\n"], "one\n"),
        (["\r 10 %", "\r 50 %", "\r100 %\n"], "100 %\n"),
        (["\r 10 %", "\r      \r", "a line\n"], "a line\n"),
        (["\x1b[32mgreen\x1b[0m\n"], "green\n"),
        (["\r 10 %\x1b[A\r", "end"], "end\n"),
        (["\n", "\r  \r\n"], "\n"),
    ],
)
def test_a_log_keeps_what_stands_when_a_line_ends(written, kept):
    screen, log = io.StringIO(), io.StringIO()
    tee = Tee(screen, log)
    for text in written:
        assert tee.write(text) == len(text)
    tee.flush()
    tee.finish()
    assert screen.getvalue() == "".join(written)
    assert log.getvalue() == kept


def test_a_tee_passes_for_its_stream(tmp_path):
    with (tmp_path / "screen").open("w", encoding="latin-1") as screen:
        tee = Tee(screen, io.StringIO())
        assert (tee.fileno(), tee.encoding, tee.isatty()) == (screen.fileno(), "latin-1", False)


def test_a_bar_does_not_grow_in_memory():
    tee = Tee(io.StringIO(), io.StringIO())
    for step in range(10_000):
        tee.write(f"\r{step} of 10000")
    assert len(tee._line) < 100


def test_one_process_keeps_no_log(tmp_path):
    with logs.kept(tmp_path):
        assert logs.current() is None
    assert not list(tmp_path.iterdir())


def test_every_rank_has_a_log_and_only_rank_0_and_errors_reach_the_terminal(on_ranks, tmp_path):
    codes, (first, second), _ = on_ranks(SPEAK.format(folder=str(tmp_path / "run")))
    assert codes == [0, 0]
    assert first.split("\n") == ["before", "said", "told", "from a program", "an error", "after", ""]
    assert second.split() == ["before", "an", "error", "after"]
    assert (tmp_path / "run/logs/rank-0.log").read_text() == "said\ntold\n"
    assert (tmp_path / "run/logs/rank-1.log").read_text() == "said\ntold\nfrom a program\n"


def test_a_folder_that_can_t_be_written_is_told_on_one_line(on_ranks, tmp_path):
    (tmp_path / "file").touch()
    code = (
        f"from pathlib import Path; from segframe import logs\nwith logs.kept(Path({str(tmp_path / 'file')!r})): pass"
    )
    codes, said, _ = on_ranks(code)
    assert codes == [1, 1]
    told = f"OSError: run.dir={tmp_path / 'file'} can't be written (Not a directory); give another run.dir."
    assert said[0].splitlines()[-1] == told


def test_a_full_disk_under_the_log_hides_nothing(on_ranks, tmp_path):
    code = (
        "import os; from pathlib import Path; from segframe import logs, verdict\n"
        f"folder = Path({str(tmp_path)!r}); (folder / 'logs').mkdir(exist_ok=True)\n"
        "rank = os.environ['RANK']; (folder / f'logs/rank-{rank}.log').symlink_to('/dev/full')\n"
        "with logs.kept(folder): rank == '0' and print('seen'); verdict.tell('why', True)"
    )
    codes, said, _ = on_ranks(code)
    assert codes == [0, 0]
    assert said[0].startswith("seen\n")
    for rank in (0, 1):
        assert said[rank].count(f"rank {rank} (host ") == 1
