"""Curves, predictions and the confusion matrix in Weights & Biases, with or without an account."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only  # type: ignore[attr-defined]
from torch import Tensor

from segframe.figures.panels import Sample
from segframe.loggers import wandb_account

_MAX_MASK_CLASSES = 256  # wandb stores masks as 8-bit PNGs


class Wandb(WandbLogger):
    """Logs to wandb; everything that it writes stays in ``RUN/wandb``.

    ``RUN/wandb_id`` keeps the run's id, so that a resumed run goes on in the same wandb run. wandb
    can't take rows back: steps that a resumed run repeats are there twice, with equal values.

    The trials of a sweep are one group, named as the sweep's folder. Under ``wandb agent`` the run is the agent's.

    Args:
        run_dir: The run folder.
        name: What the run is called; None takes the folder's name, under ``wandb agent`` one that wandb draws.
        project: The wandb project; under ``wandb agent`` the agent's.
        entity: User or team; None takes the account's default.
        mode: Where the data goes. None takes ``WANDB_MODE`` where it is set, else online where an API key
            is configured, else offline.
        group: Runs that belong together; None takes the sweep of a trial.
        tags: Words to find the run by.

    Raises:
        ModuleNotFoundError: If wandb is not installed.
    """

    def __init__(
        self,
        run_dir: str,
        name: str | None = None,
        project: str = "segframe",
        entity: str | None = None,
        mode: Literal["online", "offline", "disabled"] | None = None,
        group: str | None = None,
        tags: list[str] | None = None,
    ) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ModuleNotFoundError(
                f"logger=wandb needs the package wandb ({error}): pip install 'segframe[wandb]', or use logger=csv."
            ) from error
        folder = Path(run_dir).absolute()
        sweep, self._trial = _trial(folder)
        super().__init__(
            name=name or (f"{sweep} {folder.name}" if sweep else folder.name),
            save_dir=folder,
            project=project,
            id=_run_id(folder),
            entity=entity,
            mode=mode or wandb_account.default_mode(folder, tells=_is_rank_zero()),
            group=group or sweep,
            job_type="trial" if sweep else None,
            tags=tags,
            settings=wandb.Settings(silent=True, console="off", disable_code=True),
        )
        # wandb warns of this argument, which Lightning passes even when nobody asked for it.
        self._wandb_init.pop("anonymous", None)
        if _agent_run():
            # The agent says which run of which project this is; wandb warns of any other word on that.
            self._wandb_init |= dict.fromkeys(("id", "project", "entity")) | {"name": name}
        wandb_account.keep_files_in(folder)
        if wandb.run is not None:
            wandb.finish()  # else Lightning logs into the run of an earlier logger of this process

    @rank_zero_only
    def log_hyperparams(self, params: Mapping[str, Any]) -> None:  # type: ignore[override]
        """Logs the resolved configuration, and under ``trial`` what a sweep has chosen for this run."""
        known = set(self.experiment.config.keys()) if _agent_run() else set()
        found = {**params, "trial": self._trial} if self._trial else params
        super().log_hyperparams(_besides(found, known))

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
        """Shows images with masks by class name, and the confusion matrix; see ``PanelLogger``."""
        import wandb

        from segframe.figures.canvas import pixels
        from segframe.figures.confusion_map import confusion_figure
        from segframe.figures.sample_grid import predictions_figure

        panels: dict[str, Any] = {
            "predictions": wandb.Image(pixels(predictions_figure(samples, classes, palette, ignore_index))),
            "confusion": wandb.Image(pixels(confusion_figure(matrix, classes))),
            "confusion_counts": wandb.Table(["truth", "prediction", "pixels"], _counts(matrix, classes)),
        }
        if max(len(classes), ignore_index + 1) <= _MAX_MASK_CLASSES:
            labels = dict(enumerate(classes)) | {ignore_index: "ignored"}
            panels["samples"] = [_image(sample, labels) for sample in samples]
        self.log_metrics(panels, step)


def _image(sample: Sample, labels: dict[int, str]) -> Any:
    import wandb

    masks = {
        kind: {"mask_data": np.asarray(ids, dtype=np.uint8), "class_labels": labels}
        for kind, ids in (("truth", sample.truth), ("prediction", sample.prediction))
    }
    return wandb.Image(sample.image, caption=sample.caption, masks=masks)


def _counts(matrix: npt.ArrayLike | Tensor, classes: Sequence[str]) -> list[Iterable[Any]]:
    """Returns (truth, prediction, pixels) of the pairs that occur."""
    counts = np.asarray(matrix.cpu() if isinstance(matrix, Tensor) else matrix)
    return [[classes[row], classes[column], int(counts[row, column])] for row, column in np.argwhere(counts)]


def _run_id(folder: Path) -> str | None:
    """Returns the id that wandb's agent has drawn, or the one that the run folder keeps; other ranks have none."""
    return wandb_account.kept_id(folder, _agent_run()) if _is_rank_zero() else None


def _agent_run() -> str | None:
    """Returns the id of the run that wandb's agent has started this process for, None where it has not."""
    return os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None


def _besides(params: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    """Returns a configuration without keys that wandb's agent has set for good, of its sections what it has not."""
    found: dict[str, Any] = {}
    for key, value in params.items():
        if key not in known:
            found[key] = value
        elif isinstance(value, Mapping):
            inner = {f"{key}.{name}": entry for name, entry in value.items()}
            found |= {name: entry for name, entry in inner.items() if name not in known}
    return found


def _trial(folder: Path) -> tuple[str | None, dict[str, Any]]:
    """Returns the sweep that a run folder is a trial of, and the trial's number and parameters."""
    try:
        trial = json.loads((folder / "trial.json").read_text(encoding="utf-8"))
        return folder.parent.parent.name, {"number": trial["number"], **trial["params"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None, {}


def _is_rank_zero() -> bool:
    return getattr(rank_zero_only, "rank", 0) == 0
