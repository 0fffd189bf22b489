"""What each strategy splits over four ranks: who computes which part of a batch, and who holds which parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from segframe.figures import canvas

RANKS, IMAGES, BANDS, LAYERS = 4, 4, 4, 8
"""Ranks; images of a batch; parts that an image's rows are drawn in; layers."""

_COLOURS = ("#33557f", "#e0a458", "#5b8c6e", "#a8504a")
_TEXT, _TITLE = 7.5, 9.0
_PANEL, _MARGIN, _HEAD = (3.45, 1.85), 0.1, 0.42
_PLANE, _HELD = (1.55, 1.0), (1.05, 1.0)


class Split(NamedTuple):
    """A strategy on four ranks, as numbers along the axes of a grid of ranks.

    Attributes:
        words: Those of the command line.
        note: What it means, in a line.
        data: Parts of the batch.
        spatial: Parts of each image's rows.
        stages: Parts of the layers.
        shards: Ranks that share the parameters of what they compute.
    """

    words: str
    note: str
    data: int = 1
    spatial: int = 1
    stages: int = 1
    shards: int = 1

    def owner(self, image: int, band: int, layer: int) -> int:
        """Returns the rank that computes a layer's output for a part of an image."""
        place = (image * self.data // IMAGES, layer * self.stages // LAYERS, band * self.spatial // BANDS)
        return (place[0] * self.stages + place[1]) * self.spatial + place[2]

    def held(self, rank: int, layer: int) -> float:
        """Returns the share of a layer's parameters that a rank holds between steps."""
        if rank >= self.num_ranks:
            return 0.0
        is_mine = rank // self.spatial % self.stages == layer * self.stages // LAYERS
        return is_mine / self.shards

    @property
    def num_ranks(self) -> int:
        """How many ranks take part."""
        return self.data * self.spatial * self.stages


SPLITS = (
    Split("strategy=single", "nothing; one rank does everything"),
    Split("strategy=ddp", "the batch", data=4),
    Split("strategy=fsdp", "the batch, and the parameters", data=4, shards=4),
    Split("strategy=spatial", "the rows of each image", spatial=4),
    Split("strategy=model_sharded", "the layers, with their parameters", stages=4),
    Split("strategy=hybrid  data=2 spatial=2", "the batch, and the rows", data=2, spatial=2),
    Split("strategy=hybrid  data=2 stages=2", "the batch, and the layers", data=2, stages=2),
    Split("strategy=hybrid  fsdp=2 spatial=2", "batch, rows, and the parameters", data=2, spatial=2, shards=4),
)
"""What is drawn."""


def what_is_split(out: str | Path, splits: Sequence[Split] = SPLITS) -> None:
    """Draws the panels of some strategies, two beside each other, as a PNG.

    Args:
        out: The file.
        splits: The strategies.
    """
    canvas.save(what_is_split_figure(splits), out)


def what_is_split_figure(splits: Sequence[Split] = SPLITS) -> Figure:
    """Returns the figure of ``what_is_split``.

    Args:
        splits: The strategies.
    """
    lines = (len(splits) + 1) // 2
    height = _HEAD + lines * _PANEL[1]
    figure = canvas.new_figure(2 * _PANEL[0] + _MARGIN, height)
    _legend(figure, height - 0.12)
    for number, split in enumerate(splits):
        line, column = divmod(number, 2)
        _panel(figure, split, _MARGIN + column * _PANEL[0], height - _HEAD - line * _PANEL[1])
    return figure


def _panel(figure: Figure, split: Split, left: float, top: float) -> None:
    canvas.write(figure, left, top, split.words, _TITLE, weight="bold", family="monospace")
    canvas.write(figure, left, top - 0.18, f"split: {split.note}", _TEXT, color=canvas.MUTED)
    bottom = top - 0.55 - _PLANE[1]
    plane = canvas.add_axes(figure, left + 0.1, bottom, *_PLANE)
    _activations(plane, split)
    held = canvas.add_axes(figure, left + 0.1 + _PLANE[0] + 0.55, bottom, *_HELD)
    _parameters(held, split)


def _activations(axes: Axes, split: Split) -> None:
    """Draws layers from left to right and the rows of all images from top to bottom."""
    _bare(axes, "activations", "layers")
    axes.set_xlim(0, LAYERS)
    axes.set_ylim(IMAGES * (BANDS + 1) - 1, 0)
    for image in range(IMAGES):
        for band in range(BANDS):
            for layer in range(LAYERS):
                color = _COLOURS[split.owner(image, band, layer)]
                corner = (layer, image * (BANDS + 1) + band)
                axes.add_patch(Rectangle(corner, 0.9, 1.0, facecolor=color, linewidth=0))
    axes.set_ylabel("images", fontsize=_TEXT)


def _parameters(axes: Axes, split: Split) -> None:
    """Draws a line of layers per rank; the filled part of a cell is what the rank holds of it."""
    _bare(axes, "parameters", "layers")
    axes.set_xlim(0, LAYERS)
    axes.set_ylim(RANKS, 0)
    for rank in range(split.num_ranks):
        for layer in range(LAYERS):
            share = 0.8 * split.held(rank, layer)
            axes.add_patch(Rectangle((layer, rank + 0.1), 0.9, 0.8, facecolor="#f1f1f1", linewidth=0))
            axes.add_patch(Rectangle((layer, rank + 0.9), 0.9, -share, facecolor=_COLOURS[rank], linewidth=0))
    axes.set_yticks([rank + 0.5 for rank in range(split.num_ranks)], [f"rank {r}" for r in range(split.num_ranks)])
    axes.tick_params(axis="y", length=0, labelsize=_TEXT)


def _bare(axes: Axes, title: str, below: str) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=_TEXT, pad=3)
    axes.set_xlabel(f"{below} →", fontsize=_TEXT, labelpad=2)


def _legend(figure: Figure, top: float) -> None:
    """Says what the colours and the filled parts mean."""
    left, side = _MARGIN, 0.11
    for rank, color in enumerate(_COLOURS):
        box = canvas.add_axes(figure, left, top - side, side, side)
        box.set_facecolor(color)
        box.set_xticks([])
        box.set_yticks([])
        for spine in box.spines.values():
            spine.set_visible(False)
        canvas.write(figure, left + side + 0.05, top + 0.015, f"rank {rank}", _TEXT)
        left += side + 0.05 + canvas.text_width([f"rank {rank}"], _TEXT) + 0.15
    told = "a full cell on the right: all parameters of a layer"
    canvas.write(figure, left, top + 0.015, told, _TEXT, color=canvas.MUTED)
