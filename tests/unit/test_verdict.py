from __future__ import annotations

import pytest

from segframe import verdict

HEAD = """
import os, sys, time
from pathlib import Path
from segframe import logs, rendezvous, verdict
from segframe.ranks import place
rank = place().rank
rendezvous.join(20)
"""


@pytest.fixture
def one(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def test_one_process_tells_its_own_errors_without_a_rank(one, capsys):
    assert verdict.is_mine(False)
    assert verdict.is_mine(True)
    verdict.tell("why", True)
    assert capsys.readouterr().err == "\nwhy\n"


@pytest.mark.parametrize("supervised", [{}, {"SEGFRAME_SUPERVISED": "1"}])
def test_of_two_that_fail_one_tells_and_one_that_lost_another_does_not(on_ranks, supervised):
    code = HEAD + "if rank == 0: time.sleep(0.3)\nprint(verdict.is_mine(rank == 0)); rendezvous.leave()"
    assert on_ranks(code, **supervised)[1] == ["False\n", "True\n"]


@pytest.mark.parametrize(("supervised", "tells"), [({}, 1), ({"SEGFRAME_SUPERVISED": "1"}, 0)])
def test_a_rank_that_died_without_a_word_is_told_by_one_other_unless_a_supervisor_does(on_ranks, supervised, tells):
    code = HEAD + "if rank == 2: os._exit(0)\nprint(verdict.is_mine(True)); rendezvous.leave()"
    assert on_ranks(code, 3, **supervised)[1][:2].count("True\n") == tells


def test_where_rank_0_is_gone_rank_1_tells(on_ranks):
    code = HEAD + "if rank == 0: time.sleep(0.5); os._exit(0)\ntime.sleep(1); print(verdict.is_mine(True))"
    assert [text.split()[-1:] for text in on_ranks(code, 3)[1]] == [[], ["True"], ["False"]]


def test_what_one_rank_tells_is_in_its_log_and_on_the_terminal_once(on_ranks, tmp_path):
    code = HEAD + f"with logs.kept(Path({str(tmp_path)!r})): verdict.tell('why', rank == 1)\nrendezvous.leave()"
    _, said, _ = on_ranks(code)
    assert said[0] == ""
    assert said[1].startswith("\nrank 1 (host ")
    assert said[1].count("why") == 1
    for rank in (0, 1):
        kept = (tmp_path / f"logs/rank-{rank}.log").read_text()
        assert kept.count("why") == 1
        assert kept.startswith(f"\nrank {rank} (host ")


def test_what_ends_all_ranks_alike_names_none(on_ranks, tmp_path):
    code = HEAD + f"with logs.kept(Path({str(tmp_path)!r})): verdict.tell('stopped', rank == 0, of_all=True)"
    _, said, _ = on_ranks(code + "\nrendezvous.leave()")
    assert said == ["\nstopped\n", ""]
    assert (tmp_path / "logs/rank-0.log").read_text() == (tmp_path / "logs/rank-1.log").read_text() == "\nstopped\n"
