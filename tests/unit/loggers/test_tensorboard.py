import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("tensorboard")

from segframe.figures.panels import PanelLogger, Sample
from segframe.loggers.tensorboard import TensorBoard


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return events


def show(log: TensorBoard, step: int) -> None:
    truth = np.zeros((20, 30), np.uint8)
    truth[10:], truth[:3] = 1, 255
    sample = Sample("a.png", np.full((20, 30, 3), 90, np.uint8), truth, np.ones((20, 30), np.int64), 0.5)
    log.log_segmentation([sample], [[0, 210], [0, 300]], ["sky", "road"], [(9, 9, 200), (200, 3, 4)], step, 255)


def test_config_curves_and_panels_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "run $HOME"
    log = TensorBoard(str(folder))
    assert isinstance(log, PanelLogger)
    log.log_hyperparams({"model": {"name": "pspnet", "sizes": [1, 2]}, "seed": 3, "resume": None})
    for step in (1, 2, 3):
        log.log_metrics({"train/loss": 1 / step, "epoch": 0}, step=step)
        log.save()
    log.finalize("success")
    show(log, 3)  # pictures come after the training has ended
    log.finalize("success")
    assert {path.name for path in folder.iterdir()} == {"tensorboard"}

    events = read(folder)
    loss = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert loss == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert events.Tags()["images"] == ["predictions", "confusion"]
    grid = cv2.imdecode(np.frombuffer(events.Images("predictions")[0].encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    assert (grid == (4, 3, 200)).all(-1).sum() > 10_000  # the road's colour in OpenCV's channel order
    assert '"sizes": [' in events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()


def test_hyperparameters_are_flat(tmp_path: Path) -> None:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    log = TensorBoard(str(tmp_path))
    log.log_hyperparams({"model": {"name": "pspnet", "sizes": [1, 2]}, "seed": 3, "resume": None, "flip": True})
    log.log_metrics({"a": 1.0}, step=1)
    log.finalize("success")
    data = HParamsPluginData.FromString(
        read(tmp_path).summary_metadata["_hparams_/session_start_info"].plugin_data.content
    )
    values = data.session_start_info.hparams
    assert {key: getattr(v, v.WhichOneof("kind")) for key, v in values.items()} == {
        "model.name": "pspnet",
        "model.sizes": "[1, 2]",
        "seed": 3.0,
        "resume": "None",
        "flip": True,
    }


def test_resumed_run_replaces_later_steps(tmp_path: Path) -> None:
    for start, value in ((1, 1.0), (3, 2.0)):
        log = TensorBoard(str(tmp_path))
        for step in range(start, 6):
            log.log_metrics({"a": value}, step=step)
        log.finalize("success")
    assert [(e.step, e.value) for e in read(tmp_path).Scalars("a")] == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2)]


def test_missing_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'segframe\[tensorboard\]'"):
        TensorBoard(str(tmp_path))
