"""`strategy=spatial`: the rows of each image are split over ranks, and the numbers are those of one process."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from segframe.contracts import FileBacked, Span
from segframe.parallel.ddp import DDP
from segframe.parallel.grid import Grid
from segframe.parallel.process_group import ProcessGroupStrategy
from segframe.parallel.rows import Rows, RowTensor
from segframe.parallel.rows.batch_norm import share_over_rows
from segframe.parallel.rows.losses import check_loss
from segframe.parallel.rows.trial import trial
from segframe.parallel.stochastic import share_randomness
from segframe.ranges import Positive, PositiveInt
from segframe.ranks import place

_USUAL = (256, 256)  # rows and columns that nets are tried with where no size is known
_MANY = 512  # images whose sizes are read from their headers before training


class SplitRows(ProcessGroupStrategy):
    """Runs unmodified nets on the rows of this rank; stands before a strategy that averages gradients over all ranks.

    A net's maps are split into as many parts as an image has ranks, by the same rule at every layer. An operation
    fetches from other ranks the rows that its own need, and its backward pass returns their gradients. Each rank
    differentiates the loss of its own pixels; the average of all ranks' gradients, times their number, is that of
    the whole batch.

    Args:
        axes: Ranks along each axis; ``spatial`` are those of one image, and the last.
        options: Of the strategy behind this.
    """

    def __init__(self, axes: dict[str, int], **options: Any) -> None:
        super().__init__(**options)
        self._axes = axes
        self._grid: Grid | None = None
        self._rows = Rows(0, 1)

    def setup_distributed(self) -> None:
        """Joins the other ranks and finds those that hold rows of the same images."""
        super().setup_distributed()
        grid = self.grid
        # Of its own, since gradients are averaged while rows are exchanged.
        group = grid.group("spatial")
        torch.distributed.barrier(group)  # NCCL wants all of a group in its first operation, which rows are not
        self._rows = Rows(grid.index("spatial"), grid.size("spatial"), group)

    @property
    def grid(self) -> Grid:
        """Who holds what.

        Raises:
            ValueError: If the axes don't make up the ranks.
        """
        if self._grid is None:
            assert self._timeout is not None
            self._grid = Grid(self._axes, self.global_rank, self._timeout)
            if self._grid.num_ranks != self.world_size:
                raise ValueError(
                    f"a grid of {self._grid} takes {self._grid.num_ranks} ranks and there are {self.world_size}; set "
                    f"trainer.devices={self._grid.num_ranks}, or other sizes."
                )
        return self._grid

    @property
    def data_rank(self) -> int:
        """This rank's group among those with images of their own."""
        return self.grid.index(*self._other_axes)

    @property
    def data_size(self) -> int:
        """How many groups have images of their own."""
        return self.grid.size(*self._other_axes)

    @property
    def row_part(self) -> tuple[int, int]:
        """This rank's place in its group, from the top of an image."""
        return self.grid.index("spatial"), self.grid.size("spatial")

    def parallelize(self, net: nn.Module) -> None:
        """Makes sure that the net can be run on rows, then prepares its layers.

        Raises:
            ValueError: If an operation of the net or the loss has no exact form on rows, or an image has fewer rows
                than a layer needs; names it.
        """
        if self._rows.size > 1:
            task: Any = self.lightning_module
            if getattr(task, "compiles", False):
                raise ValueError(
                    "task.compile=true can't be combined with rows split over ranks, whose exchanges the compiler does "
                    "not follow; set task.compile=false, or take strategy=ddp or fsdp."
                )
            check_loss(task.loss, len(task.classes), self._rows.size)
            for height, width in _sizes(getattr(task.trainer, "datamodule", None), task.inference):
                trial(net, height, width, self._rows.size)
        super().parallelize(net)

    def share_layers(self, net: nn.Module) -> None:
        """Lets BatchNorm see all rows of all images, or with ``sync_batchnorm=false`` all rows of the group's."""
        grid = self.grid
        if self.sync_batchnorm:
            share_over_rows(net, None, grid.group(*self._other_axes))
        else:
            share_over_rows(net, grid.group("spatial"), grid.group())
        share_randomness(net, self.data_rank, self.data_size)

    def distribute(self, image_BChW: Tensor, height: int) -> Any:
        """Returns images of which every rank of the group has its rows."""
        if self._rows.size == 1:
            return image_BChW
        self._rows.check(height, "the image")
        return RowTensor(image_BChW, height, self._rows)

    def own(self, x: Any) -> Tensor:
        """Returns this rank's rows; of a map that is the same on all ranks those that are its own."""
        if isinstance(x, RowTensor):
            return x.local
        if self._rows.size == 1:
            return x  # type: ignore[no-any-return]
        span = Span.part(x.shape[-2], *self.row_part)
        rows: Tensor = x.as_subclass(Tensor)[..., span.start : span.stop, :]
        return rows

    def sum_over_image(self, value: Tensor) -> Tensor:
        """Returns the sum over the ranks of this group."""
        if self._rows.size == 1:
            return value
        value = value.to(self.root_device, copy=True)
        torch.distributed.all_reduce(value, group=self._rows.group)
        return value

    def whole_map(self, x_BhW: Tensor, height: int) -> Tensor:
        """Returns all rows of a prediction."""
        if self._rows.size == 1:
            return x_BhW
        return RowTensor(x_BhW[:, None], height, self._rows).whole()[:, 0]

    def gather(self, items: list[Any]) -> list[Any]:
        """Returns what the groups have, each once."""
        return super().gather(items if self.row_part[0] == 0 else [])

    def layout(self, batch_size: int, height: int | None) -> list[str]:
        """Returns which rank holds which rows of which samples."""
        return [f"grid: {self.grid}", *(self._held_by(rank, batch_size, height) for rank in range(self.world_size))]

    def _held_by(self, rank: int, batch_size: int, height: int | None) -> str:
        other = Grid(self._axes, rank, self.grid.timeout)
        group, groups = other.index(*self._other_axes), other.size(*self._other_axes)
        share = batch_size // groups
        index, count = other.index("spatial"), other.size("spatial")
        if height is None:
            rows = f"part {index + 1} of {count} of the rows"
        else:
            span = Span.part(height, index, count)
            rows = f"rows {span.start} to {span.stop - 1} of {height}"
        return f"rank {rank}: {rows} of the samples {group * share + 1} to {(group + 1) * share} of {batch_size}"

    @property
    def _other_axes(self) -> tuple[str, ...]:
        return tuple(axis for axis in self._axes if axis != "spatial")


class Spatial(SplitRows, DDP):
    """The rows of each image over the ranks of a group, and images over groups; the net is whole on every rank.

    Args:
        data: Groups of ranks, each with images of its own; the ranks of a group share the rows of theirs.
        sync_batchnorm: Whether BatchNorm's statistics are those of all groups' images.
        find_unused_parameters: As for ``DDP``.
        timeout_s: How long a rank waits for the others in training.
        start_timeout_s: How long it waits for them at the start.

    Raises:
        ValueError: If the ranks don't divide into so many groups.
    """

    def __init__(
        self,
        data: PositiveInt = 1,
        sync_batchnorm: bool = True,
        find_unused_parameters: bool | None = None,
        timeout_s: Positive = 1800,
        start_timeout_s: Positive = 120,
    ) -> None:
        ranks = place().world_size
        if ranks % data:
            raise ValueError(
                f"strategy.data={data} groups can't share {ranks} ranks out equally; set trainer.devices to a multiple "
                f"of {data}, or another strategy.data."
            )
        super().__init__(
            {"data": data, "spatial": ranks // data},
            sync_batchnorm=sync_batchnorm,
            find_unused_parameters=find_unused_parameters,
            timeout_s=timeout_s,
            start_timeout_s=start_timeout_s,
        )


def _sizes(data: Any, inference: Any) -> list[tuple[int, int]]:
    """Returns the sizes of the images that the net will get, as far as they are known before the first."""
    if data is None:
        return [_USUAL]
    crop = data.augment.crop_size
    sizes = _of_images(data.train, data.num_train) if crop is None else [(int(crop[0]), int(crop[1]))]
    evaluated = [size for image in _of_images(data.val, data.num_evaluated()) for size in inference.sizes(*image)]
    return list(dict.fromkeys([*sizes, *evaluated]))


def _of_images(images: Any, count: int) -> list[tuple[int, int]]:
    """Returns the size of the first image, and of that with the fewest rows, among many spread over those that count.

    Args:
        images: A data set.
        count: How many of its images are used, from the first.
    """
    if not count:
        return []
    if not isinstance(images, FileBacked):
        height, width = images[0][0].shape[-2:]  # what is made up has one size
        return [(int(height), int(width))]
    known = [images.size(index) for index in range(0, count, -(-count // _MANY))]
    return list(dict.fromkeys([known[0], min(known)]))
