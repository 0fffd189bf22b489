"""Rows of images and parameters split over the same ranks: both terms of the memory shrink."""

from __future__ import annotations

from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from segframe.parallel.fsdp import FSDP
from segframe.parallel.spatial import SplitRows
from segframe.ranges import Positive, PositiveInt


class ShardedRows(SplitRows, FSDP):
    """The rows of each image over ``spatial`` ranks, and the net's parameters over ``fsdp`` x ``spatial``.

    Args:
        data: Groups of ranks with a whole net each.
        fsdp: Parts of the batch within such a group.
        spatial: Parts of each image's rows.
        sync_batchnorm: Whether BatchNorm's statistics are those of all images.
        timeout_s: How long a rank waits for the others in training.
        start_timeout_s: How long it waits for them at the start.
    """

    def __init__(
        self,
        data: PositiveInt = 1,
        fsdp: PositiveInt = 1,
        spatial: PositiveInt = 1,
        sync_batchnorm: bool = True,
        timeout_s: Positive = 1800,
        start_timeout_s: Positive = 120,
    ) -> None:
        super().__init__(
            {"data": data, "fsdp": fsdp, "spatial": spatial},
            sync_batchnorm=sync_batchnorm,
            timeout_s=timeout_s,
            start_timeout_s=start_timeout_s,
        )

    @property
    def num_shards(self) -> int:
        """Ranks that share a net's parameters out among them."""
        return self.grid.size("fsdp", "spatial")

    def shard_mesh(self) -> DeviceMesh:
        """Returns the ranks that hold a net together, and behind another axis those with another copy of it."""
        device, groups = self.root_device.type, self.grid.size("data")
        if groups == 1:
            return init_device_mesh(device, (self.num_shards,), mesh_dim_names=("shard",))
        return init_device_mesh(device, (groups, self.num_shards), mesh_dim_names=("data", "shard"))
