"""`strategy=fsdp`: the batch is split over ranks, and so are parameters, gradients and the optimizer's state."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.utils._pytree import tree_map

from segframe.parallel.process_group import ProcessGroupStrategy
from segframe.parallel.reduce_scatter import AllToAllReduceScatter
from segframe.parallel.units import shard_units
from segframe.ranges import Positive

_Dtype = Literal["float32", "bfloat16", "float16"]


class FSDP(ProcessGroupStrategy):
    """Fully sharded data parallelism (PyTorch's FSDP2) over the parts of any net.

    Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel", VLDB 2023.

    Between steps each rank holds 1/N of every parameter, gradient and optimizer state; a part of the net is
    gathered when its forward or backward pass comes and freed behind it. While the net is evaluated it is
    whole on every rank, so that evaluations of different lengths need no communication.

    Args:
        sync_batchnorm: Whether BatchNorm's statistics are those of all ranks, so that numbers are those of one.
        param_dtype: What parameters are gathered and used in; None leaves that to ``trainer.precision``.
        reduce_dtype: What gradients are summed over ranks in; None takes that of the gradients.
        cpu_offload: Whether shards and the optimizer stay in the memory of the CPU; needs a GPU.
        timeout_s: How long a rank waits for the others in training.
        start_timeout_s: How long it waits for them at the start.
    """

    def __init__(
        self,
        sync_batchnorm: bool = True,
        param_dtype: _Dtype | None = None,
        reduce_dtype: _Dtype | None = None,
        cpu_offload: bool = False,
        timeout_s: Positive = 1800,
        start_timeout_s: Positive = 120,
    ) -> None:
        # With offload, gradients are clipped and checkpoints gathered on the CPU.
        backend = "cpu:gloo,cuda:nccl" if cpu_offload else None
        super().__init__(sync_batchnorm, timeout_s, start_timeout_s, process_group_backend=backend)
        self._cpu_offload = cpu_offload
        self._precision = MixedPrecisionPolicy(param_dtype=_dtype(param_dtype), reduce_dtype=_dtype(reduce_dtype))
        self._net: nn.Module | None = None

    @property
    def parameter_share(self) -> float:
        """One of as many equal parts as there are ranks that share parameters out."""
        return 1 / self.num_shards

    @property
    def num_shards(self) -> int:
        """Ranks that share a net's parameters out among them: all."""
        return self.world_size

    def shard_mesh(self) -> DeviceMesh:
        """Returns the ranks that share parameters out."""
        return init_device_mesh(self.root_device.type, (self.world_size,), mesh_dim_names=("data",))

    def parallelize(self, net: nn.Module) -> None:
        """Shards a net in units of consecutive layers.

        Raises:
            ValueError: If a parameter is a single number, or offloading is asked for and there is no GPU to
                offload from.
        """
        if scalars := [name for name, parameter in net.named_parameters() if parameter.ndim == 0]:
            raise ValueError(
                f"strategy=fsdp splits parameters by their first axis, and {', '.join(scalars)} of "
                f"{type(net).__name__} has none: make it a vector of one element, such as nn.Parameter(torch.ones(1)), "
                "or take strategy=ddp."
            )
        if self._cpu_offload and self.root_device.type == "cpu":
            raise ValueError(
                "strategy.cpu_offload=true keeps shards in the memory of the CPU while a GPU computes, and this run "
                "is on the CPU; set strategy.cpu_offload=false."
            )
        units = shard_units(net)  # before BatchNorm is shared: the search runs a twin here, without the other ranks
        super().parallelize(net)
        _keep_layout(net)
        # FSDP2 takes contiguous parameters alone.
        self.precision_plugin.convert_module(net).to(memory_format=torch.contiguous_format)
        mesh = self.shard_mesh()
        offload = CPUOffloadPolicy() if self._cpu_offload else OffloadPolicy()
        for unit in [net.get_submodule(name) for name in (*units, "")]:
            unit.register_forward_hook(_own_memory)
            sharded = fully_shard(unit, mesh=mesh, mp_policy=self._precision, offload_policy=offload)
            if self.root_device.type == "cpu":
                sharded.set_custom_reduce_scatter(AllToAllReduceScatter())
        self._net = net

    def model_to_device(self) -> None:
        """Moves everything but the net, whose shards are where they belong."""
        module = self.lightning_module
        assert module is not None
        if self._net is None:
            super().model_to_device()
            return
        name = next(name for name, child in module.named_children() if child is self._net)
        setattr(module, name, nn.Identity())
        try:
            module.to(self.root_device)
        finally:
            setattr(module, name, self._net)

    def on_validation_start(self) -> None:
        """Makes the net whole: ranks evaluate different numbers of images and windows."""
        super().on_validation_start()
        for part in self._parts():
            part.unshard()
            part.set_reshard_after_forward(False, recurse=False)

    def on_validation_end(self) -> None:
        """Frees what other ranks hold."""
        root = self._net
        for part in self._parts():
            part.set_reshard_after_forward(part is not root, recurse=False)
            part.reshard()
        super().on_validation_end()

    def minimum_bytes_sent(self, net: nn.Module) -> int:
        """Returns what gathering twice and scattering once sends in a step of one micro-batch.

        The root's parameters are gathered once.
        """
        share, copies = (self.num_shards - 1) / self.num_shards, self.world_size // self.num_shards
        units = {id(p) for part in self._parts() if part is not self._net for p in part.parameters()}
        sent = 0.0
        for parameter in net.parameters():
            gathers = 2 if id(parameter) in units else 1
            gathered = (self._precision.param_dtype or parameter.dtype).itemsize
            reduced = (self._precision.reduce_dtype or self._precision.param_dtype or parameter.dtype).itemsize
            sent += share * parameter.numel() * (gathers * gathered + reduced)
            # Of several copies of the net, each averages its shard of the gradients with the others'.
            sent += 2 * (copies - 1) / copies * parameter.numel() / self.num_shards * reduced
        return int(sent)

    def _parts(self) -> list[Any]:
        """Returns the sharded modules, the whole net first: it prepares the others."""
        return [] if self._net is None else [m for m in self._net.modules() if isinstance(m, FSDPModule)]


def _keep_layout(net: nn.Module) -> None:
    """Lets convolutions go on in channels_last where their weights are, which won't be so once they are sharded.

    A map would else fall back to NCHW behind the first pooling to 1 x 1: slower, and dropout, which draws in the
    order of memory, would drop other elements than in one process.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and _strides_last(module.weight):
            module.register_forward_hook(_in_channels_last)


def _in_channels_last(module: nn.Module, inputs: Any, output: Any) -> Any:
    return tree_map(_laid_out, output)  # a map may be split into rows


def _laid_out(output: Tensor) -> Tensor:
    if output.dim() != 4 or _strides_last(output):
        return output
    if output.shape[-2:].numel() > 1:
        return output.contiguous(memory_format=torch.channels_last)
    # Of a map of 1 x 1 only the strides tell the layout.
    channels = output.shape[1]
    return output.as_strided(output.shape, (channels, 1, channels, channels))


def _strides_last(x: Tensor) -> bool:
    """Tells whether the strides are those of channels_last, by which operations choose their output's."""
    _, channels, _, width = x.shape
    return x.stride(1) == 1 and x.stride(3) == channels and x.stride(2) == channels * width


def _own_memory(module: nn.Module, inputs: Any, output: Any) -> Any:
    """Copies outputs that are views: changed in place, they would lose the hook that gathers for the backward pass."""
    return tree_map(lambda x: x.clone() if isinstance(x, Tensor) and x.requires_grad and x._is_view() else x, output)


def _dtype(name: str | None) -> torch.dtype | None:
    found: torch.dtype | None = None if name is None else getattr(torch, name)
    return found
