"""The pictures of a run, drawn without a display."""

from segframe.figures.confusion_map import confusion
from segframe.figures.iou_bars import iou
from segframe.figures.sample_grid import predictions
from segframe.figures.training_curves import curves

__all__ = ["confusion", "curves", "iou", "predictions"]
