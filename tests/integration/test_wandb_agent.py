"""wandb's own agent runs what conf/sweep/wandb.yaml says, without a network: all but the server is wandb's code."""

import json
import multiprocessing
import os
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("wandb")

from segframe.config.options import shipped_dir

SWEEP = shipped_dir() / "sweep" / "wandb.yaml"


@pytest.fixture
def agent_shell(monkeypatch, tmp_path):
    """The environment of `wandb agent` in an activated environment, in a folder of its own."""
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    python = Path(sys.executable).parent
    settings = {
        "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]),
        "HOME": str(tmp_path),
        "NETRC": str(tmp_path / "none"),
        "WANDB_BASE_URL": "http://127.0.0.1:9",
        "WANDB_MODE": "offline",
        "WANDB_PROJECT": "streets",
        "WANDB_SWEEP_ID": "sw33p1d0",
        "WANDB_DIR": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    # wandb's agent sets these for the run that it starts; here they have to be gone afterwards.
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(name, "")
    return tmp_path


def test_agent_trains_and_the_run_is_its_own(agent_shell, small, wandb_records):
    from wandb.wandb_agent import Agent

    sweep = yaml.safe_load(SWEEP.read_text())  # as wandb sweep does
    # What the server would draw: one value of each parameter, and constants that keep the training small. Two ranks, of
    # which one may log.
    drawn = {
        "optimizer.lr": 0.0123,
        "optimizer.weight_decay": sweep["parameters"]["optimizer.weight_decay"]["values"][1],
    }
    assert set(drawn) == set(sweep["parameters"])
    fixed = dict(word.split("=", 1) for word in (*small, "strategy=ddp", "trainer.devices=2"))
    agent = Agent(api=None, queue=multiprocessing.Queue(), sweep_id="sw33p1d0")
    agent._sweep_command = sweep["command"]
    args = {name: {"value": value} for name, value in {**drawn, **fixed, "trainer.max_epochs": 1}.items()}
    answer = agent._process_command({"type": "run", "run_id": "ag3ntrun", "program": sweep["program"], "args": args})
    assert "exception" not in answer, answer
    process = agent._run_processes["ag3ntrun"]
    try:
        assert process.wait(timeout=300) == 0
    finally:
        process.kill()

    run = agent_shell / "outputs/wandb/ag3ntrun"
    results = json.loads((run / "results.json").read_text())
    assert results["status"] == "finished"
    assert "optimizer.lr=0.0123" in json.loads((run / "overrides.json").read_text())
    assert (run / "wandb_id").read_text() == "ag3ntrun\n"
    found = wandb_records(run)
    (of_run,) = {record.run.run_id: record.run for record in found if record.HasField("run")}.values()
    assert (of_run.run_id, of_run.sweep_id, of_run.project) == ("ag3ntrun", "sw33p1d0", "streets")
    config = {i.key: json.loads(i.value_json) for r in found if r.HasField("config") for i in r.config.update}
    config |= {item.key: json.loads(item.value_json) for item in of_run.config.update}
    assert config["optimizer.lr"] == config["optimizer"]["lr"] == 0.0123
    logged = [{"/".join(i.nested_key) or i.key for i in r.history.item} for r in found if r.HasField("history")]
    assert sum(sweep["metric"]["name"] in keys for keys in logged) == 1
