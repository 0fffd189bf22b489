from __future__ import annotations

import socket

import pytest
import torch

from segframe import rendezvous

HEAD = """
import os, signal, sys, time, torch
from segframe import rendezvous
from segframe.ranks import place
rank = place().rank
cpu = torch.device("cpu")
"""


@pytest.fixture
def alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    yield
    rendezvous.leave()


def test_one_process_agrees_with_itself(alone):
    rendezvous.join()
    assert rendezvous.agree("a word", 3) == 3
    assert rendezvous.anywhere("it", True)
    assert not rendezvous.anywhere("it", False)
    assert rendezvous.first_to_fail()
    assert rendezvous.failed_rank() is None
    assert rendezvous.hosts() == [socket.gethostname()]
    with rendezvous.rank_0_first("a thing") as is_first:
        assert is_first


def test_a_process_group_of_one_sums(alone):
    rendezvous.start_process_group("gloo", torch.device("cpu"), 10, 10)
    total = torch.ones(1)
    torch.distributed.all_reduce(total)
    assert total.item() == 1
    rendezvous.start_process_group("gloo", torch.device("cpu"), 10, 10)
    rendezvous.leave()
    assert not torch.distributed.is_initialized()


def test_ranks_agree_and_wait_for_the_first(on_ranks):
    code = (
        HEAD
        + """
time.sleep(0.1 * (2 - rank))
print(rendezvous.agree("a word", ["of", rank]), rendezvous.agree("a word", {"again": rank}))
print(rendezvous.anywhere("on 1", rank == 1), rendezvous.anywhere("on none", False))
began = time.monotonic()
with rendezvous.rank_0_first("a thing") as is_first:
    if is_first: time.sleep(0.3)
    print(is_first, time.monotonic() - began > 0.25)
with rendezvous.rank_0_first("on the node", on_each_node=True) as is_first: print(is_first)
rendezvous.start_process_group("gloo", cpu, 20, 20)
total = torch.ones(1); torch.distributed.all_reduce(total); print(int(total))
print(len(rendezvous.hosts()))
rendezvous.leave()
"""
    )
    codes, said, _ = on_ranks(code, 3)
    assert codes == [0, 0, 0], said
    lines = "['of', 0] {{'again': 0}}\nTrue False\n{0} True\n{0}\n3\n3\n"
    assert said == [lines.format(rank == 0) for rank in range(3)]


def test_ranks_end_when_the_first_fails_at_its_part(on_ranks):
    code = (
        HEAD
        + """
try:
    with rendezvous.rank_0_first("a thing"):
        if rank == 0: raise ValueError("no")
        print("entered")
except (ValueError, rendezvous.AnotherRankError) as error:
    print(type(error).__name__, error)
rendezvous.leave()
"""
    )
    codes, said, _ = on_ranks(code)
    assert said == ["ValueError no\n", "AnotherRankError the rank that goes first has failed at a thing\n"]
    assert codes == [0, 0]


def test_only_one_rank_is_the_first_to_fail(on_ranks):
    code = (
        HEAD
        + """
rendezvous.join()
if rank == 1: time.sleep(0.3)
print(rendezvous.first_to_fail(), rendezvous.failed_rank(5))
try: rendezvous.agree("never", 0) if rank else time.sleep(1)
except rendezvous.AnotherRankError as error: print(error)
rendezvous.leave()
"""
    )
    _, said, _ = on_ranks(code)
    assert said == ["True 0\n", "False 0\nrank 0 has failed\n"]


@pytest.mark.parametrize(
    ("when", "known"),
    [
        ("if rank == 1: time.sleep(30)\nrendezvous.join(1)", ""),
        ("rendezvous.join(5)\nif rank == 1: os.kill(os.getpid(), signal.SIGSTOP)", "; rank 1 was last seen on host "),
        (
            "make = rendezvous._open_group\n"
            "def stop(*arguments): os.kill(os.getpid(), signal.SIGSTOP) if rank == 1 else make(*arguments)\n"
            "rendezvous._open_group = stop",
            "; rank 1 was last seen on host ",
        ),
    ],
    ids=["never started", "stopped before the group", "stopped in the group"],
)
def test_a_rank_that_does_not_answer_is_named(on_ranks, monkeypatch, when, known):
    monkeypatch.setattr("segframe.launch.GRACE_S", 0.2)
    code = (
        HEAD
        + when
        + """
try: rendezvous.start_process_group("gloo", cpu, 1, 20)
except rendezvous.RanksMissingError as error: print("missing:", error); sys.exit(4)
"""
    )
    code = code if "join(1)" not in when else code.replace("rendezvous.join(1)", "")
    codes, said, team = on_ranks(code)
    assert (codes[0], team.first_failed) == (4, 0)
    host = socket.gethostname()
    assert f"missing: rank 1 of 2 has not answered within 1 s (answered: rank 0 on host {host} (process" in said[0]
    assert known in said[0]
    assert "MASTER_PORT" in said[0]
    assert "GLOO_SOCKET_IFNAME" in said[0]


def test_rank_0_is_missed_too(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for name, value in (("RANK", 1), ("WORLD_SIZE", 2), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", port)):
        monkeypatch.setenv(name, str(value))
    rendezvous.leave()
    with pytest.raises(rendezvous.RanksMissingError, match=f"rank 0 of 2 has not answered at 127.0.0.1:{port} within"):
        rendezvous.join(1)
    monkeypatch.delenv("MASTER_PORT")
    with pytest.raises(rendezvous.RanksMissingError, match="MASTER_PORT is not: start the ranks by torchrun"):
        rendezvous.join(1)
