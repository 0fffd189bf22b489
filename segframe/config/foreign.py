"""Names of parallel strategies that other frameworks have and segframe has not, and what does their work here."""

from __future__ import annotations

_DP = (
    "DataParallel runs one process for all GPUs: its threads share one Python lock, the net is copied to every GPU in "
    "every step, and each copy's BatchNorm sees its own part of the batch, of which the first GPU's statistics are "
    "kept. It is slower than ddp and its numbers are those of no single device. "
    "strategy=ddp trainer.devices=N takes as many GPUs with one process each, and gives one device's numbers"
)
_SHARDED = "strategy=fsdp splits parameters, gradients and the optimizer's state over the devices"

_STAGES = "strategy=model_sharded splits the layers over the devices, in a pipeline of micro-batches"
_ROWS = "strategy=spatial splits the rows of each image over the devices"

_INSTEAD = {
    "dp": _DP,
    "data_parallel": _DP,
    "dataparallel": _DP,
    "ddp_spawn": "strategy=ddp starts its processes itself, from a server that has done the imports once",
    "ddp_fork": "strategy=ddp starts its processes itself, from a server that has done the imports once",
    "ddp_notebook": "strategy=ddp starts its processes itself; in a notebook: !segframe train strategy=ddp ...",
    "ddp_find_unused_parameters_true": "strategy=ddp; it finds out by itself whether a net leaves parameters out",
    "fsdp1": _SHARDED,
    "fsdp2": _SHARDED,
    "fully_sharded": _SHARDED,
    "fully_sharded_data_parallel": _SHARDED,
    "fairscale": _SHARDED,
    "sharded": _SHARDED,
    "deepspeed": f"{_SHARDED}, as ZeRO's stage 3; strategy.cpu_offload=true is its offload",
    "zero": f"{_SHARDED}, as ZeRO's stage 3",
    "colossalai": _SHARDED,
    "hsdp": "strategy=hybrid strategy.data=N strategy.fsdp=M splits parameters within groups of devices",
    "pp": _STAGES,
    "pipeline": _STAGES,
    "pipeline_parallel": _STAGES,
    "gpipe": f"{_STAGES}; strategy.schedule=gpipe",
    "model_parallel": f"{_STAGES}; strategy=fsdp splits each layer's parameters",
    "tp": f"no layer's channels are split here: {_SHARDED}, and {_ROWS}",
    "tensor_parallel": f"no layer's channels are split here: {_SHARDED}, and {_ROWS}",
    "context_parallel": _ROWS,
    "sequence_parallel": _ROWS,
    "spatial_parallel": _ROWS,
    "horovod": "strategy=ddp averages gradients by the same ring; torchrun or srun start it on several nodes",
}


def instead_of(group: str, option: str) -> str | None:
    """Returns what to use instead of another framework's strategy; None where the name is none of those.

    Args:
        group: The group of the option.
        option: What was asked for.
    """
    name = option.lower().replace("-", "_")
    if name.startswith(("deepspeed", "zero")):
        name = name.split("_")[0].rstrip("123")
    return _INSTEAD.get(name) if group == "strategy" else None
