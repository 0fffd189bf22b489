"""Strategies x nets x what goes wrong: no combination hangs, and all ranks end alike, with the reason said once."""

from __future__ import annotations

import json
import signal
import textwrap
from contextlib import contextmanager

import pytest

pytestmark = pytest.mark.xdist_group("fault matrix")

LIMIT_S = 120
STRATEGIES = {
    "ddp": ("strategy=ddp", 2),
    "fsdp": ("strategy=fsdp", 2),
    "spatial": ("strategy=spatial", 3),
    "model_sharded": ("strategy=model_sharded trainer.accumulate_grad_batches=2", 2),
    "data x rows": ("strategy=hybrid strategy.data=2 strategy.spatial=2", 4),
    "data x stages": ("strategy=hybrid strategy.data=2 strategy.stages=2", 4),
    "fsdp x rows": ("strategy=hybrid strategy.fsdp=2 strategy.spatial=2", 4),
}
HAVE_ROWS = {"spatial", "data x rows", "fsdp x rows"}
NETS = ("model=pspnet model.encoder=tu-test_resnet", "model=segnet_basic model.width=8")
DEAD = """
    import os
    import pytorch_lightning as pl
    from segframe.ranks import place

    class Dead(pl.Callback):
        def on_train_batch_end(self, trainer, *arguments):
            if place().rank == 1 and trainer.global_step == 3:
                os.kill(os.getpid(), 9)
"""


@contextmanager
def limited():
    """Breaks off what hangs."""

    def late(number, frame):
        raise TimeoutError(f"had not ended after {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def train(alone, small, capfd, monkeypatch, tmp_path):
    """Trains under a strategy; returns (exit code, what the terminal shows, results.json)."""
    from segframe.cli import main

    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(strategy, *words):
        own, ranks = STRATEGIES[strategy]
        folder = tmp_path / "run"
        words = [*(w for w in small if not w.startswith(("model=", "trainer.max_epochs"))), *own.split(), *words]
        with limited():
            code = main(["train", *words, "trainer.max_steps=4", f"trainer.devices={ranks}", f"run.dir={folder}"])
        found = folder / "results.json"
        return code, capfd.readouterr().err, json.loads(found.read_text()) if found.exists() else None

    return run


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_odd_rows_are_trained_on(train, strategy, net):
    size = ("dataset.crop_size=[75,43]", "dataset.train.height=83", "dataset.train.width=49")
    code, told, results = train(strategy, *net.split(), *size)
    assert code == 0, told
    assert results["status"] == "finished"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_too_few_rows_are_refused_or_of_no_account(train, strategy):
    # Of 16 rows segnet_basic keeps one at its deepest.
    code, told, results = train(strategy, *NETS[1].split(), "dataset.crop_size=[16,48]")
    if strategy not in HAVE_ROWS:
        assert code == 0, told
        return
    assert code == 1, told
    assert told.count("rows, and") == 1, told
    assert "so that some would have none" in told
    assert "Traceback" not in told
    assert results is None or results["status"] == "failed"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_rank_that_dies_ends_all(train, strategy, monkeypatch, tmp_path):
    (tmp_path / "dead_rank.py").write_text(textwrap.dedent(DEAD))
    (tmp_path / "conf/callbacks").mkdir(parents=True)
    (tmp_path / "conf/callbacks/dead.yaml").write_text(
        "# one rank dies\ndefaults: [default]\ndead:\n  _target_: dead_rank.Dead\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code, told, results = train(strategy, f"--config-dir={tmp_path / 'conf'}", "callbacks=dead", *NETS[1].split())
    assert code == 137, told
    assert told.count("error: rank 1 was killed by SIGKILL") == 1
    assert (results["status"], results["failed_rank"]) == ("failed", 1)
