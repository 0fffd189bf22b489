"""What a logger that can show pictures is given at the end of a run.

Shape suffixes: H rows, W columns, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor


class Sample(NamedTuple):
    """One validation image and what the net made of it.

    Attributes:
        name: The file name.
        image: uint8 (H, W, 3), RGB.
        truth: Class ids and the ignored label (H, W).
        prediction: Class ids (H, W).
        miou: Mean IoU of this image; NaN where it has no counted pixel or was not evaluated.
        worst: Whether it is shown for its low score.
    """

    name: str
    image: npt.NDArray[np.uint8]
    truth: npt.NDArray[Any]
    prediction: npt.NDArray[Any]
    miou: float
    worst: bool = False

    @property
    def caption(self) -> str:
        """The name with the score, and whether it is one of the worst."""
        score = "not scored" if math.isnan(self.miou) else f"mIoU {self.miou:.3f}"
        return f"{self.name}   {score}{'   worst' if self.worst else ''}"


class Prediction(NamedTuple):
    """What a net sees in an image that has no truth.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        ids: The most likely class of each pixel (H, W).
        confidence: Its probability, float32 (H, W).
    """

    image: npt.NDArray[np.uint8]
    ids: npt.NDArray[Any]
    confidence: npt.NDArray[np.float32]


@runtime_checkable
class PanelLogger(Protocol):
    """A logger that shows predictions and the confusion matrix."""

    def log_segmentation(
        self,
        samples: Sequence[Sample],
        matrix: npt.ArrayLike | Tensor,
        classes: Sequence[str],
        palette: Sequence[tuple[int, int, int]],
        step: int,
        ignore_index: int,
    ) -> None:
        """Shows samples and a confusion matrix.

        Args:
            samples: Images with their predictions.
            matrix: Pixel counts (K, K); rows are the truth, columns the prediction.
            classes: Class names in the order of their ids.
            palette: One (red, green, blue) of 0..255 per class.
            step: Optimizer steps so far.
            ignore_index: The label of pixels that don't count.
        """
        ...
