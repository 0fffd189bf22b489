"""`strategy=hybrid`: ranks in a grid that splits several things at once."""

from __future__ import annotations

import math
from typing import Literal

from pytorch_lightning.strategies import Strategy

from segframe.parallel.model_sharded import ModelSharded
from segframe.parallel.sharded_rows import ShardedRows
from segframe.parallel.spatial import Spatial
from segframe.ranges import Positive, PositiveInt
from segframe.ranks import place


def hybrid(
    data: PositiveInt = 1,
    fsdp: PositiveInt = 1,
    stages: PositiveInt = 1,
    spatial: PositiveInt = 1,
    sync_batchnorm: bool = True,
    schedule: Literal["gpipe", "1f1b"] = "1f1b",
    cuts: Literal["auto"] | list[int] | list[str] = "auto",
    timeout_s: Positive = 1800,
    start_timeout_s: Positive = 120,
) -> Strategy:
    """Returns the strategy of a grid of ranks: batch x rows, batch x stages, or batch x shards x rows.

    Args:
        data: Parts of the batch, each with a whole net.
        fsdp: Further parts of the batch; the ranks of these and of ``spatial`` share the net's parameters out.
        stages: Parts of the net's layers.
        spatial: Parts of the rows of each image.
        sync_batchnorm: Whether BatchNorm's statistics are those of all images.
        schedule: With ``stages``, the order of the micro-batches.
        cuts: With ``stages``, where they begin.
        timeout_s: How long a rank waits for the others in training.
        start_timeout_s: How long it waits for them at the start.

    Raises:
        ValueError: If stages are combined with rows or shards, nothing is split, or the ranks are others.
    """
    sizes = {"data": data, "fsdp": fsdp, "stages": stages, "spatial": spatial}
    _check(sizes)
    if stages > 1:
        return ModelSharded(
            data=data,
            schedule=schedule,
            cuts=cuts,
            sync_batchnorm=sync_batchnorm,
            timeout_s=timeout_s,
            start_timeout_s=start_timeout_s,
        )
    if fsdp > 1:
        return ShardedRows(data, fsdp, spatial, sync_batchnorm, timeout_s, start_timeout_s)
    return Spatial(data, sync_batchnorm, None, timeout_s, start_timeout_s)


def _check(sizes: dict[str, int]) -> None:
    product, ranks = math.prod(sizes.values()), place().world_size
    told = " x ".join(f"strategy.{axis}={size}" for axis, size in sizes.items() if size > 1)
    if not told:
        raise ValueError(
            "strategy=hybrid splits nothing as long as all of its axes are 1; give two of them, such as "
            "strategy.data=2 strategy.spatial=2, or take strategy=ddp."
        )
    if sizes["stages"] > 1 and (sizes["fsdp"] > 1 or sizes["spatial"] > 1):
        raise ValueError(
            f"{told}: stages can't be combined with shards or rows, since a stage's maps would have to be cut again on "
            "their way to the next. Use strategy.data with strategy.stages, or strategy.data, strategy.fsdp and "
            "strategy.spatial together."
        )
    if product != ranks:
        raise ValueError(f"{told} takes {product} ranks and there are {ranks}; set trainer.devices={product}.")
