"""A run's net for use outside of training: in notebooks, in scripts, on images of one's own.

Shape suffixes: B batch, C channels, H rows, W columns, K classes.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from segframe.build import assemble
from segframe.checkpoint import load_weights
from segframe.checkpoint_io import read_checkpoint
from segframe.config.compose import compose_resume
from segframe.contracts import IGNORE_INDEX, Batch
from segframe.data.decode import read_image
from segframe.figures.panels import Prediction, Sample
from segframe.metrics.confusion import confusion_matrix
from segframe.metrics.scores import mean_iou

if TYPE_CHECKING:
    from segframe.build import Run

ONE_DEVICE = (
    "strategy=single",
    "trainer.accelerator=auto",
    "trainer.devices=1",
    "trainer.num_nodes=1",
    "trainer.precision=32-true",
)
"""However a run was trained: the best device that is here, alone, in float32."""

_QUIET_S = 2.0  # seconds after which a loop shows its progress

# tqdm, as other packages import it, misses its widgets in a notebook; segframe's own progress needs none.
warnings.filterwarnings("ignore", message="IProgress not found")


class TrainedNet:
    """The net of a run with a checkpoint's weights (their average, where the run kept one), on one device.

    Images are evaluated as the run's configuration says (``task.inference``).

    Args:
        run_dir: The run folder.
        checkpoint: ``best``, ``last`` or ``previous`` of the run, or the path of a checkpoint.
        words: Overrides of the run's configuration, such as ``task.inference.flip=true``.

    Raises:
        ConfigError: If ``run_dir`` is no run folder, or a word is not right.
        CheckpointError: If the checkpoint is missing, damaged or of another net.

    Attributes:
        folder: The run folder.
        classes: Class names in the order of their ids.
        palette: One (red, green, blue) of 0..255 per class.
        ignore_index: The label of pixels that don't count.
    """

    ignore_index = IGNORE_INDEX

    def __init__(self, run_dir: str | Path, checkpoint: str | Path = "best", words: Sequence[str] = ()) -> None:
        self.folder = Path(run_dir)
        is_name = checkpoint in ("best", "last", "previous")
        config = compose_resume(self.folder, [*ONE_DEVICE, *words], for_training=False)
        content = read_checkpoint(self.folder / "checkpoints" / f"{checkpoint}.ckpt" if is_name else Path(checkpoint))
        self._run: Run = assemble(config, self.folder, None, training=False)
        self._task = self._run.task
        load_weights(self._task.net, content)
        strategy: Any = self._run.trainer.strategy
        self._device: torch.device = strategy.root_device
        self._task.net.to(self._device).eval()
        self.classes, self.palette = self._task.classes, self._task.palette

    def probabilities(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns the probability of every class at every pixel, (K, H, W), which sum to 1 over classes.

        Args:
            image: uint8 (H, W, 3), RGB, of any size.

        Raises:
            ValueError: If it is no such image.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(
                f"an image of shape {image.shape} and type {image.dtype} can't be predicted on; "
                "give uint8 (rows, columns, 3), RGB."
            )
        # torch takes no array that is mirrored by its strides, and warns of one that can't be written to.
        own = np.array(image, order="C")
        return self._probabilities(torch.from_numpy(own).permute(2, 0, 1)).numpy()

    def predict(self, image: NDArray[np.uint8] | str | Path) -> Prediction:
        """Returns what the net sees in an image.

        Args:
            image: uint8 (H, W, 3), RGB, or an image file.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it can't be read or is no such image.
        """
        pixels = read_image(Path(image)) if isinstance(image, str | Path) else image
        probabilities = self.probabilities(pixels)
        return Prediction(pixels, probabilities.argmax(0), probabilities.max(0))

    def samples(self, count: int | None = None) -> Iterator[Sample]:
        """Yields validation images with their truth, the prediction and the image's own mean IoU.

        Args:
            count: How many, from the first; None yields all.
        """
        dataset = self._run.data.val
        total = self._run.data.num_val if count is None else min(count, self._run.data.num_val)
        # Notebooks show what stands on standard error as if it were wrong.
        stream = sys.stdout if type(sys.stdout).__module__.startswith("ipykernel.") else sys.stderr
        progress = tqdm(range(total), desc="predicting", unit="image", delay=_QUIET_S, leave=False, file=stream)
        for index in progress:
            image_CHW, mask = dataset[index]
            ids = self._probabilities(image_CHW).argmax(0)
            matrix = confusion_matrix(ids, mask, len(self.classes), IGNORE_INDEX)
            pixels = image_CHW.permute(1, 2, 0).numpy()
            yield Sample(dataset.name(index), pixels, mask.numpy(), ids.numpy(), mean_iou(matrix).item())

    @torch.no_grad()
    def _probabilities(self, image_CHW: Tensor) -> Tensor:
        mask = torch.zeros(image_CHW.shape[1:], dtype=torch.uint8)[None]  # nobody looks at it
        batch = Batch(image_CHW[None].to(self._device), mask, ["image"], torch.zeros(1, dtype=torch.int64))
        image_BCHW = self._task.preprocess(batch, epoch=None, dtype=torch.float32, sum_over_image=None)
        return self._task.inference(self._task.net, image_BCHW)[0].softmax(0).cpu()
