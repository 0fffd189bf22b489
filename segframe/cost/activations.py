"""What autograd keeps from a forward pass for its backward pass, and what is gathered meanwhile."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from segframe.cost.memory import storage_bytes
from segframe.sharding import local


class SavedTensors:
    """Counts the bytes of the storages that autograd keeps for the backward pass, while it is entered.

    Buffers don't count, nor do parameters, whether a rank holds them or has gathered them for the moment; copies of
    them in another number format do. What a custom function keeps elsewhere than in ``save_for_backward`` isn't seen.

    Args:
        net: The net that runs.

    Attributes:
        peak_bytes: The most that was kept at once.
        peak_gathered_bytes: The most bytes of whole parameters that were there at once in place of shards.
    """

    def __init__(self, net: nn.Module) -> None:
        self.peak_bytes = self.peak_gathered_bytes = 0
        self._net = net
        self._kept: dict[int, list[int]] = {}  # storage: how many hold it, its bytes
        self._bytes = 0
        self._parameters = {local(t).untyped_storage()._cdata for t in (*net.parameters(), *net.buffers())}
        self._sharded = [name for name, p in net.named_parameters() if isinstance(p, DTensor)]
        self._owners = {name: _owner(net, name) for name in self._sharded}
        self._hooks: Any = torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack)
        self._handles: list[Any] = []

    def __enter__(self) -> SavedTensors:
        """Starts to count."""
        for module in self._net.modules():
            if module._parameters:
                # Behind FSDP's own hook, which puts the whole parameters in the place of the shards.
                self._handles.append(module.register_forward_pre_hook(self._note_parameters))
        self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stops to count."""
        self._hooks.__exit__(kind, error, traceback)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _note_parameters(self, module: nn.Module, arguments: Any) -> None:
        own = (p for p in module._parameters.values() if p is not None)
        self._parameters |= {local(p).untyped_storage()._cdata for p in own}
        self._note_gathered()

    def _note_gathered(self) -> None:
        now = (getattr(module, name) for module, name in self._owners.values())
        gathered = storage_bytes(p for p in now if not isinstance(p, DTensor))
        self.peak_gathered_bytes = max(self.peak_gathered_bytes, gathered)

    def _pack(self, tensor: Tensor) -> Tensor | _Kept:
        storage = local(tensor).untyped_storage()
        key = storage._cdata
        if key in self._parameters:
            return tensor
        entry = self._kept.setdefault(key, [0, storage.nbytes()])
        entry[0] += 1
        if entry[0] == 1:
            self._bytes += entry[1]
            self.peak_bytes = max(self.peak_bytes, self._bytes)
        return _Kept(tensor, self, key)

    def _unpack(self, kept: Tensor | _Kept) -> Tensor:
        self._note_gathered()
        return kept.tensor if isinstance(kept, _Kept) else kept

    def release(self, key: int) -> None:
        """Takes note that autograd has let go of a tensor.

        Args:
            key: Of its storage.
        """
        entry = self._kept[key]
        entry[0] -= 1
        if entry[0] == 0:
            self._bytes -= entry[1]
            del self._kept[key]


class _Kept:
    """A tensor that autograd holds; tells when it is let go."""

    def __init__(self, tensor: Tensor, counter: SavedTensors, key: int) -> None:
        self.tensor, self._counter, self._key = tensor, counter, key

    def __del__(self) -> None:
        self._counter.release(self._key)


def _owner(net: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, last = name.rpartition(".")
    return net.get_submodule(path), last
