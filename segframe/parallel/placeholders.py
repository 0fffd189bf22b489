"""Parameters of other ranks' layers: names and shapes without memory; and whole states from all ranks' parts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import ProcessGroup


def keep_only(net: nn.Module, kept: set[int]) -> None:
    """Puts tensors without data in the place of a net's other parameters and buffers.

    Names, shapes, their order and so the indices in an optimizer stay those of the whole net.

    Args:
        net: Changed in place.
        kept: The identities of the tensors that stay.
    """
    made: dict[int, Tensor] = {}
    for module in net.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and id(parameter) not in kept:
                if id(parameter) not in made:
                    empty = torch.empty_like(parameter, device="meta")
                    made[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
                module.register_parameter(name, made[id(parameter)])  # type: ignore[arg-type]
        for name, buffer in module._buffers.items():
            if buffer is not None and id(buffer) not in kept:
                module._buffers[name] = torch.empty_like(buffer, device="meta")


def tensors_of(stage: object) -> list[Tensor]:
    """Returns a stage's parameters and buffers; a function has none."""
    return [*stage.parameters(), *stage.buffers()] if isinstance(stage, nn.Module) else []


def held(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns those tensors that this rank has the data of."""
    return {name: x for name, x in named.items() if not x.is_meta}


def emptied(whole: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns whole tensors, those without data where ``own`` has none."""
    return {
        name: torch.empty_like(x, device="meta") if name in own and own[name].is_meta else x
        for name, x in whole.items()
    }


def collect(named: Mapping[str, Tensor], group: ProcessGroup, device: torch.device) -> dict[str, Tensor]:
    """Returns on a group's first rank the tensors of all its ranks on the CPU, nothing elsewhere (collective).

    What several have is taken of the first that has it.

    Args:
        named: This rank's tensors; those without data don't count.
        group: The ranks that hold parts of one model.
        device: Where ranks exchange values.
    """
    own = held(named)
    parts: list[list[tuple[str, torch.Size, torch.dtype]]] = [[] for _ in range(group.size())]
    dist.all_gather_object(parts, [(name, x.shape, x.dtype) for name, x in own.items()], group=group)
    first = dist.get_global_rank(group, 0)
    found: dict[str, Tensor] = {}
    seen: set[str] = set()
    for rank, entries in enumerate(parts):
        for name, shape, dtype in entries:
            if name in seen:
                continue
            seen.add(name)
            if group.rank() == 0:
                if rank == 0:
                    value = own[name].detach()
                else:
                    value = torch.empty(shape, dtype=dtype, device=device)
                    dist.recv(value, src=dist.get_global_rank(group, rank), group=group)
                found[name] = value.cpu()
            elif group.rank() == rank:
                dist.send(own[name].detach().to(device).contiguous(), dst=first, group=group)
    # In the order of the whole model, where this rank knows it.
    return {name: found[name] for name in (*named, *found) if name in found}
