"""Runs on two nodes: the numbers of one process, whatever dies on the way."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("nodes")

WORDS = (
    "trainer=cpu",
    "trainer.precision=64-true",
    "model=tiny",
    "dataset.train.num_images=64",
    "dataset.val.num_images=5",
    "dataset.train.height=48",
    "dataset.train.width=48",
    "dataset.crop_size=[48,48]",
    "data.batch_size=4",
    "data.num_workers=0",
    "trainer.max_epochs=6",
    "trainer.log_every_n_steps=1",
    "callbacks.checkpoints.every_n_steps=5",
)
"""96 steps of some milliseconds, with a checkpoint that is a few steps old wherever they are broken off."""

NUMBERS = ("train/loss", "val/loss", "val/miou", "val/pixel_accuracy")


@pytest.fixture
def alone(tmp_path, segframe, rows):
    """The rows of one undisturbed process."""
    code, _, said = segframe("train", *WORDS, f"run.dir={tmp_path / 'alone'}")
    assert code == 0, said
    found = rows(tmp_path / "alone")
    losses = [float(row["train/loss"]) for row in found]
    assert max(losses) - min(losses) > 0.1, "nothing was learnt, so every comparison would agree"
    return found


def check_same(found, expected) -> None:
    """Sees that no step is lost or counted twice, and that each gives the same numbers."""
    assert [row["step"] for row in found] == [row["step"] for row in expected]
    for row, other in zip(found, expected, strict=True):
        for name in NUMBERS:
            assert bool(row[name]) == bool(other[name]), (row["step"], name)
            if row[name]:
                assert float(row[name]) == pytest.approx(float(other[name]), rel=1e-9), (row["step"], name)


def num_rows(run: Path) -> int:
    path = run / "metrics.csv"
    return path.read_text().count("\n") if path.exists() else 0


def in_the_middle(cluster, run: Path, steps: int = 20) -> None:
    """Waits until a run has made so many steps and kept a checkpoint."""
    cluster.wait_for(lambda: num_rows(run) > steps and (run / "checkpoints" / "last.ckpt").exists())
    assert num_rows(run) < 90, "the run was faster than the test"


def test_two_nodes_give_the_numbers_of_one_process(cluster, alone, rows, tmp_path):
    run = tmp_path / "run"
    cluster.torchrun(*WORDS, "strategy=fsdp", f"run.dir={run}")  # all others are ddp
    assert cluster.end() == [0, 0], cluster.said
    check_same(rows(run), alone)
    assert "mIoU" in cluster.nodes[0].said
    assert "mIoU" not in cluster.nodes[1].said, "one table and one progress bar"


def test_a_killed_worker_and_then_a_killed_node_change_no_number(cluster, alone, rows, tmp_path):
    run = tmp_path / "run"
    cluster.torchrun(*WORDS, f"run.dir={run}", nnodes="1:2", max_restarts=2)
    in_the_middle(cluster, run)
    cluster.nodes[1].kill_rank(1)
    cluster.wait_for(lambda: "started again" in cluster.nodes[0].said)
    in_the_middle(cluster, run, steps=45)
    cluster.nodes[1].kill()
    assert cluster.nodes[0].end(240) == 0, cluster.said
    check_same(rows(run), alone)
    said = cluster.nodes[0].said
    assert said.count("started again") == 2
    assert said.index("64-true on cpu x 2") < said.index("64-true on cpu x 1")


def test_where_the_store_is_a_file_the_first_node_may_die_and_come_back(cluster, alone, rows, tmp_path):
    run = tmp_path / "run"
    words = (*WORDS, f"run.dir={run}")
    store = {"endpoint": str(tmp_path / "rendezvous"), "conf": "store_type=file", "nnodes": "1:2", "max_restarts": 3}
    # As scripts/torchrun.sh does: torchrun's agents otherwise keep the address of the round before.
    store["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    cluster.torchrun(*words, **store)
    in_the_middle(cluster, run)
    cluster.nodes[0].kill()
    cluster.wait_for(lambda: "64-true on cpu x 1" in cluster.nodes[1].said)
    cluster.torchrun(*words, only=0, **store)
    assert cluster.end() == [0, 0], cluster.said
    check_same(rows(run), alone)


def test_when_the_host_of_the_rendezvous_dies_the_same_command_goes_on(cluster, alone, rows, tmp_path):
    run = tmp_path / "run"
    cluster.torchrun(*WORDS, f"run.dir={run}", nnodes="1:2", max_restarts=2)
    in_the_middle(cluster, run)
    cluster.nodes[0].kill()
    assert cluster.nodes[1].end(60) != 0, "torchrun cannot go on without its store"
    assert "The connection to the C10d store has failed" in cluster.nodes[1].said
    cluster.torchrun(*WORDS, f"run.dir={run}", nnodes="1:2", max_restarts=2)
    assert cluster.end() == [0, 0], cluster.said
    check_same(rows(run), alone)


def test_a_pulled_cable_ends_both_sides_in_time(cluster, tmp_path):
    run, timeout_s = tmp_path / "run", 8
    cluster.torchrun(*WORDS, f"run.dir={run}", f"strategy.timeout_s={timeout_s}", "trainer.max_epochs=500")
    in_the_middle(cluster, run)
    for node in cluster.nodes:
        # torchrun itself asks the lost store until Linux gives the connection up: after 15 minutes, or what this says.
        node.start_and_wait("sh", "-c", "echo 5 > /proc/sys/net/ipv4/tcp_retries2")
    cluster.nodes[1].cable("down")
    pulled_at = time.time()
    codes = cluster.end(timeout_s + 90)
    assert all(codes), cluster.said
    for rank in range(2):
        log = run / "logs" / f"rank-{rank}.log"
        waited = r"waited (8 s|strategy\.timeout_s) for the other ranks"  # it may not know how long
        assert re.search(rf"{waited}|another rank|connection to rank 0", log.read_text()), cluster.said
        assert log.stat().st_mtime - pulled_at < timeout_s + 15, "the ranks themselves end in time"
