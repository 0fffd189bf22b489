"""Curves, predictions and the confusion matrix in TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only  # type: ignore[attr-defined]
from torch import Tensor

from segframe.figures.panels import Sample

_FOLDER = "tensorboard"
_FLUSH_S = 10
_SCORES = ("val/miou", "val/pixel_accuracy", "val/loss")


class TensorBoard(TensorBoardLogger):
    """Writes event files to ``RUN/tensorboard``; look at them with ``tensorboard --logdir RUN``.

    A resumed run replaces what the stopped one had written from its first step on.

    Args:
        run_dir: The run folder.

    Raises:
        ModuleNotFoundError: If tensorboard is not installed.
    """

    def __init__(self, run_dir: str) -> None:
        try:
            import tensorboard  # noqa: F401
        except ImportError as error:
            raise ModuleNotFoundError(
                f"logger=tensorboard needs the package tensorboard ({error}): pip install 'segframe[tensorboard]', "
                "or use logger=csv."
            ) from error
        super().__init__(run_dir, name="", version=_FOLDER, default_hp_metric=False, flush_secs=_FLUSH_S)
        self._folder = Path(run_dir) / _FOLDER
        self._config: dict[str, Any] | None = None

    @property
    def log_dir(self) -> str:
        """The folder of the event files, however it is named: no ``$`` or ``~`` in it is expanded."""
        return str(self._folder)

    @rank_zero_only
    def log_hyperparams(self, params: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Keeps the resolved configuration for the first row, before which no file is begun."""
        self._config = dict(params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Writes the metrics of a step."""
        self._begin(step)
        super().log_metrics(metrics, step)

    @rank_zero_only
    def log_segmentation(
        self,
        samples: Sequence[Sample],
        matrix: npt.ArrayLike | Tensor,
        classes: Sequence[str],
        palette: Sequence[tuple[int, int, int]],
        step: int,
        ignore_index: int,
    ) -> None:
        """Shows predictions and the confusion matrix; see ``PanelLogger``."""
        from segframe.figures.canvas import pixels
        from segframe.figures.confusion_map import confusion_figure
        from segframe.figures.sample_grid import predictions_figure

        self._begin(step)
        grid = pixels(predictions_figure(samples, classes, palette, ignore_index))
        self.experiment.add_image("predictions", grid, step, dataformats="HWC")
        self.experiment.add_image("confusion", pixels(confusion_figure(matrix, classes)), step, dataformats="HWC")
        self.experiment.flush()

    @rank_zero_only
    def save(self) -> None:
        """Writes what is waiting in memory."""
        self.experiment.flush()

    def _begin(self, step: int | None) -> None:
        """Opens the file at the first step, hides later steps of a stopped run, and writes the configuration."""
        if self._experiment is None:
            self._kwargs["purge_step"] = step
        if self._config is None:
            return
        from torch.utils.tensorboard.summary import hparams

        config, self._config = self._config, None
        flat = {key: _plain(value) for key, value in _flat(config).items()}
        writer = self.experiment._get_file_writer()
        for summary in hparams(flat, dict.fromkeys(_SCORES, 0)):  # type: ignore[no-untyped-call]
            writer.add_summary(summary)
        text = json.dumps(config, indent=2, default=str)
        self.experiment.add_text("config", "\n".join(f"    {line}" for line in text.splitlines()), 0)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested values by their dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _plain(value: Any) -> int | float | str | bool:
    return value if isinstance(value, int | float | str | bool) else str(value)
