"""Curves, predictions and the confusion matrix in Weights & Biases, with or without an account."""

from __future__ import annotations

import netrc
import os
import secrets
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only  # type: ignore[attr-defined]
from torch import Tensor

from segframe.figures.panels import Sample

_MAX_MASK_CLASSES = 256  # wandb stores masks as 8-bit PNGs


class Wandb(WandbLogger):
    """Logs to wandb; everything that it writes stays in ``RUN/wandb``.

    ``RUN/wandb_id`` keeps the run's id, so that a resumed run goes on in the same wandb run. wandb
    can't take rows back: steps that a resumed run repeats are there twice, with equal values.

    Args:
        run_dir: The run folder.
        name: What the run is called; None takes the folder's name.
        project: The wandb project.
        entity: User or team; None takes the account's default.
        mode: Where the data goes. None takes ``WANDB_MODE`` where it is set, else online where an API key
            is configured, else offline.
        group: Runs that belong together.
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
        super().__init__(
            name=name or folder.name,
            save_dir=folder,
            project=project,
            id=_run_id(folder),
            entity=entity,
            mode=mode or _default_mode(folder),
            group=group,
            tags=tags,
            settings=wandb.Settings(silent=True, console="off", disable_code=True),
        )
        # wandb warns of this argument, which Lightning passes even when nobody asked for it.
        self._wandb_init.pop("anonymous", None)
        # Staged tables and artifacts would otherwise go to the home directory.
        for variable, subfolder in (("WANDB_CACHE_DIR", "cache"), ("WANDB_DATA_DIR", "data")):
            os.environ[variable] = str(folder / "wandb" / subfolder)
        if wandb.run is not None:
            wandb.finish()  # else Lightning logs into the run of an earlier logger of this process

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
    """Returns the id that the run folder keeps; ranks that don't log have none."""
    if not _is_rank_zero():
        return None
    file = folder / "wandb_id"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{secrets.token_hex(4)}\n", encoding="utf-8")
    return file.read_text(encoding="utf-8").strip()


def _is_rank_zero() -> bool:
    return getattr(rank_zero_only, "rank", 0) == 0


def _default_mode(folder: Path) -> str:
    if asked := os.environ.get("WANDB_MODE"):
        return asked
    if _has_api_key():
        return "online"
    if _is_rank_zero():
        print(
            "wandb: no API key is configured (wandb login), so this run is logged offline; "
            f"send it later with: wandb sync {folder}/wandb/offline-run-*",
            file=sys.stderr,
        )
    return "offline"


def _has_api_key() -> bool:
    """Returns whether wandb would find a key; looks where wandb does, without asking the network."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    named = [Path(os.environ["NETRC"])] if "NETRC" in os.environ else [Path("~/.netrc"), Path("~/_netrc")]
    for file in (path.expanduser() for path in named):
        if file.is_file():
            try:
                return netrc.netrc(file).authenticators(host) is not None
            except netrc.NetrcParseError as error:
                print(f"wandb: {file} can't be read ({error})", file=sys.stderr)
    return False
