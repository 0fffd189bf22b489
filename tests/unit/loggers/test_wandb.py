"""wandb without an account and without a network, in a process of its own that must end."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("wandb")

from segframe.loggers.wandb import Wandb

pytestmark = pytest.mark.xdist_group("wandb")  # one finished run for all

RUN = """
import sys
import numpy as np
from segframe.figures.panels import PanelLogger, Sample
from segframe.loggers.wandb import Wandb

log = Wandb(sys.argv[1], name="night", project="streets", group="g", tags=["t"])
assert isinstance(log, PanelLogger)
log.log_hyperparams({"model": {"name": "pspnet", "sizes": [1, 2]}, "seed": 3})
for step in (1, 2, 3):
    log.log_metrics({"train/loss": 1 / step, "epoch": 0}, step=step)
truth = np.zeros((20, 30), np.uint8)
truth[10:], truth[:3] = 1, 255
prediction = np.ones((20, 30), np.int64)
sample = Sample("a.png", np.full((20, 30, 3), 90, np.uint8), truth, prediction, 0.5, True)
log.log_segmentation([sample], [[0, 210], [0, 300]], ["sky", "road"], [(9, 9, 200), (200, 3, 4)], 3, 255)
log.finalize("success")
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A finished run: its folder, the home directory it had, and what it printed."""
    folder, home = tmp_path_factory.mktemp("sweep") / "trials" / "0003", tmp_path_factory.mktemp("home")
    folder.mkdir(parents=True)
    (folder / "trial.json").write_text(json.dumps({"number": 3, "params": {"optimizer.lr": 0.1, "model": "pspnet"}}))
    env = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "XDG")) and k != "NETRC"}
    env |= {"HOME": str(home), "WANDB_BASE_URL": "http://127.0.0.1:9", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder)], env=env, capture_output=True, text=True, timeout=90, cwd=home
    )
    assert done.returncode == 0, done.stderr
    return folder, home, done.stdout + done.stderr


def history(records: list[Any]) -> list[dict[str, Any]]:
    rows = [record.history for record in records if record.HasField("history")]
    return [{"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in row.item} for row in rows]


def config(records: list[Any]) -> dict[str, Any]:
    updates = [record.config.update for record in records if record.HasField("config")]
    return {item.key: json.loads(item.value_json) for update in updates for item in update}


def test_says_how_to_send_it(finished: tuple[Path, Path, str]) -> None:
    folder, _, said = finished
    assert said.strip().splitlines() == [
        "wandb: no API key is configured (wandb login), so this run is logged offline; "
        f"send it later with: wandb sync {folder}/wandb/offline-run-*"
    ]


def test_everything_stays_in_the_run_folder(finished: tuple[Path, Path, str]) -> None:
    folder, home, _ = finished
    assert {path.name for path in folder.iterdir()} == {"wandb", "wandb_id", "trial.json"}
    assert not [path for path in home.rglob("*") if path.is_file() and "matplotlib" not in str(path)]


def test_config_and_curves(finished: tuple[Path, Path, str], wandb_records: Any) -> None:
    folder = finished[0]
    found = wandb_records(folder)
    (run,) = [record.run for record in found if record.HasField("run")]
    assert (run.project, run.display_name, run.run_group, list(run.tags)) == ("streets", "night", "g", ["t"])
    assert run.run_id == (folder / "wandb_id").read_text().strip()
    assert config(found)["model"] == {"name": "pspnet", "sizes": [1, 2]}
    assert config(found)["seed"] == 3
    assert config(found)["trial"] == {"number": 3, "optimizer.lr": 0.1, "model": "pspnet"}
    assert run.job_type == "trial"
    curve = [(row["trainer/global_step"], row["train/loss"]) for row in history(found) if "train/loss" in row]
    assert curve == [(1, 1.0), (2, 0.5), (3, 1 / 3)]


def test_masks_with_class_names_and_confusion_matrix(finished: tuple[Path, Path, str], wandb_records: Any) -> None:
    folder = finished[0]
    found = wandb_records(folder)
    (files,) = folder.glob("wandb/offline-run-*/files")
    row = history(found)[-1]
    assert row["samples/captions"] == ["a.png   mIoU 0.500   worst"]
    (masks,) = row["samples/all_masks"]
    truth = cv2.imread(str(files / masks["truth"]["path"]), cv2.IMREAD_UNCHANGED)
    prediction = cv2.imread(str(files / masks["prediction"]["path"]), cv2.IMREAD_UNCHANGED)
    assert np.unique(truth).tolist() == [0, 1, 255]
    assert np.unique(prediction).tolist() == [1]
    labels = config(found)["_wandb"]["mask/class_labels"]
    (names,) = (value["value"] for key, value in labels.items() if key.endswith("truth"))
    assert names == {"0": "sky", "1": "road", "255": "ignored"}
    assert cv2.imread(str(files / row["confusion/path"])).shape[0] > 300
    table = json.loads((files / row["confusion_counts/path"]).read_text())
    assert table["data"] == [["sky", "road", 210], ["road", "road", 300]]


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, "restored after the test")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return monkeypatch


def mode(tmp_path: Path, **options: Any) -> str:
    return str(Wandb(str(tmp_path / "run"), **options)._wandb_init["mode"])


def test_mode(clean: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mode(tmp_path) == "offline"
    assert "wandb sync" in capsys.readouterr().err
    (tmp_path / "netrc").write_text("machine elsewhere.org login user password x\n")
    assert mode(tmp_path) == "offline"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password x\n")
    capsys.readouterr()
    assert mode(tmp_path) == "online"
    clean.setenv("NETRC", str(tmp_path / "missing"))
    clean.setenv("WANDB_API_KEY", "x")
    assert mode(tmp_path) == "online"
    clean.setenv("WANDB_MODE", "disabled")
    assert mode(tmp_path) == "disabled"
    assert mode(tmp_path, mode="offline") == "offline"
    assert capsys.readouterr().err == ""


def test_resumed_run_keeps_its_id(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ids = [Wandb(str(tmp_path / run)).version for run in ("a", "a", "b")]
    assert ids[0] == ids[1] != ids[2]


def test_trials_of_a_sweep_are_a_group(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "lr-0123abcd" / "trials" / "0012"
    before = Wandb(str(folder))._wandb_init
    assert (before["group"], before["job_type"], before["name"]) == (None, None, "0012")
    (folder / "trial.json").write_text(json.dumps({"number": 12, "params": {"seed": 1}}))
    found = Wandb(str(folder))._wandb_init
    assert (found["group"], found["job_type"], found["name"]) == ("lr-0123abcd", "trial", "lr-0123abcd 0012")
    assert Wandb(str(folder), group="mine", name="night")._wandb_init["group"] == "mine"


def test_missing_package(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clean.setitem(sys.modules, "wandb", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'segframe\[wandb\]'"):
        Wandb(str(tmp_path))


def test_under_wandbs_agent_the_run_is_the_agents(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Wandb(str(tmp_path)).version
    clean.setenv("WANDB_RUN_ID", "left0ver")
    assert Wandb(str(tmp_path)).version != "left0ver", "only a sweep's agent decides"
    clean.setenv("WANDB_SWEEP_ID", "sw33p")
    clean.setenv("WANDB_RUN_ID", "ag3ntrun")
    found = Wandb(str(tmp_path), project="mine", entity="us")
    assert (found.version, (tmp_path / "wandb_id").read_text()) == ("ag3ntrun", "ag3ntrun\n")
    assert [found._wandb_init[key] for key in ("id", "project", "entity", "name")] == [None] * 4
