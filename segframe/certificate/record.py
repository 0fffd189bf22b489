"""What one run leaves behind to be compared: whole tensors from rank 0, and from every rank what it took part in."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.optim import Optimizer

from segframe.callbacks.ema import KEY as EMA
from segframe.callbacks.ema import Ema
from segframe.certificate.facts import Facts, RankFacts
from segframe.certificate.progress import advance
from segframe.certificate.watch import RandomLayers, Ties
from segframe.contracts import FILLER, IGNORE_INDEX, Batch
from segframe.runfolder import write_json
from segframe.sharding import local

_TENSORS, _FACTS = "tensors.safetensors", "facts.json"


class Record:
    """One finished run, read from its folder; tensors are read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        self.facts = Facts(**facts)
        files = sorted(folder.glob("rank-*.json"), key=lambda file: int(file.stem.removeprefix("rank-")))
        self.ranks = [RankFacts(**json.loads(file.read_text(encoding="utf-8"))) for file in files]

    @staticmethod
    def is_whole(folder: Path) -> bool:
        """Whether a folder holds a finished record; facts are written last."""
        return (folder / _FACTS).is_file()

    def tensors(self, kind: str) -> dict[str, Tensor]:
        """Returns the tensors of a kind by their names in the model.

        Args:
            kind: ``gradient 1`` (of step 1), ``parameter``, ``buffer``, ``average``, ``optimizer`` or ``confusion``.
        """
        from safetensors import safe_open

        with safe_open(self.folder / _TENSORS, framework="pt") as file:
            keys = [key for key in file.keys() if key.partition("/")[0] == kind]  # noqa: SIM118 - it is no dict
            return {key.partition("/")[2]: file.get_tensor(key) for key in keys}

    def kinds(self) -> list[str]:
        """Returns the kinds of tensors that there are."""
        from safetensors import safe_open

        with safe_open(self.folder / _TENSORS, framework="pt") as file:
            return list(dict.fromkeys(key.partition("/")[0] for key in file.keys()))  # noqa: SIM118


class Recorder(Callback):
    """Records a run of some steps and its evaluation. Every rank has one; added behind the run's own callbacks.

    Args:
        folder: Where the record is written.
        num_steps: After how many steps the run ends.
        tolerance: Relative difference up to which two runs are equal; decides which pixels are ties.
        facts: What is known before the run starts.
    """

    def __init__(self, folder: Path, num_steps: int, tolerance: float, facts: Facts) -> None:
        self._folder, self._num_steps, self._tolerance = folder, num_steps, tolerance
        self._facts = facts
        self._tensors: dict[str, Tensor] = {}
        self._start: dict[str, dict[str, Tensor]] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Starts to watch what draws and what is predicted."""
        strategy: Any = trainer.strategy
        self._own = RankFacts(trainer.global_rank, os.getpid(), strategy.data_rank, strategy.data_size)
        self._own.rows = strategy.row_part
        self._random = RandomLayers(pl_module.net)
        self._ties = pl_module.inference = Ties(pl_module.inference, self._tolerance)

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Keeps the values that training starts from."""
        named = dict(pl_module.net.named_parameters())
        self._own.local_parameters = sum(local(p).numel() for p in named.values() if not p.is_meta)
        strategy: Any = trainer.strategy
        self._own.permitted_parameters = _permitted(named, strategy.parameter_share)
        for kind, values in (("parameter", named), ("buffer", dict(pl_module.net.named_buffers()))):
            self._start[kind] = {name: x.clone() for name, x in strategy.whole(_detached(values)).items()}
        self._facts.num_parameters = sum(x.numel() for x in self._start["parameter"].values())

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        """Notes which samples a step has, and how many of their pixels count for nothing."""
        self._own.samples.append(batch.indices.tolist())
        self._own.ignored.append(int((batch.mask == IGNORE_INDEX).sum()))

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        """Keeps the gradients of the first and the last step, before they are clipped."""
        step = trainer.global_step + 1
        if step not in (1, self._num_steps):
            return
        strategy: Any = trainer.strategy
        own = {name: p.grad for name, p in pl_module.net.named_parameters() if p.grad is not None}
        self._own.local_gradients = sum(local(gradient).numel() for gradient in own.values())
        kind = f"gradient {step}"
        self._take(kind, strategy.whole(own))
        values = [x for key, x in self._tensors.items() if key.startswith(f"{kind}/")]
        if values:
            by_value = self._facts.clip is not None and self._facts.clip[1] == "value"
            norms = torch.stack([x.double().abs().max() if by_value else x.double().norm() for x in values])
            self._facts.gradient_norms[kind] = float(norms.max() if by_value else norms.norm())

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Keeps the loss of the global batch."""
        self._facts.losses.append(float(pl_module.step_loss))
        if trainer.is_global_zero:
            advance(self._folder)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Forgets an earlier evaluation."""
        self._own.evaluated = []
        self._ties.take()

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Notes which images this rank has evaluated."""
        self._own.evaluated += [index for index in batch.indices.tolist() if index != FILLER]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Keeps what the last evaluation has counted."""
        matrix = pl_module.confusion.compute()
        if trainer.is_global_zero:
            self._take("confusion", {"matrix": matrix.cpu()})
            self._facts.metrics = {name: float(x) for name, x in trainer.callback_metrics.items()}
        self._facts.ties = self._ties.take()

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Keeps what training has made, and writes everything."""
        strategy: Any = trainer.strategy
        for kind, values in (
            ("parameter", dict(pl_module.net.named_parameters())),
            ("buffer", dict(pl_module.net.named_buffers())),
        ):
            found = strategy.whole(_detached(values))
            self._take(kind, found)
            start = self._start[kind]
            self._facts.moved[kind] = max((_change(x, start[name]) for name, x in found.items()), default=0.0)
        self._look_into_checkpoint(trainer, pl_module.net)
        for callback in getattr(trainer, "callbacks"):  # noqa: B009 - hidden from mypy by Lightning
            if isinstance(callback, Ema):
                content: dict[str, Any] = {}
                callback.on_save_checkpoint(trainer, pl_module, content)
                self._take("average", {name.removeprefix("net."): x for name, x in content[EMA].items()})
        self._own.random_layers = self._random.end()
        write_json(self._folder / f"rank-{self._own.rank}.json", asdict(self._own))
        if trainer.is_global_zero:
            self._write()
            advance(self._folder)

    def _look_into_checkpoint(self, trainer: pl.Trainer, net: nn.Module) -> None:
        """Compares what a checkpoint would hold of the model, and keeps what it would hold of the optimizer."""
        strategy: Any = trainer.strategy
        weights = strategy.lightning_module_state_dict()
        passing = {
            f"{name}.{key}".lstrip(".") for name, m in net.named_modules() for key in m._non_persistent_buffers_set
        }
        for key, tensor in self._tensors.items():
            kind, _, name = key.partition("/")
            is_kept = kind == "parameter" or (kind == "buffer" and name not in passing)
            if is_kept and not _same(weights.get(f"net.{name}"), tensor):
                self._facts.not_in_checkpoint.append(name)
        optimizer = trainer.optimizers[0]
        self._weigh_states(optimizer, strategy.parameter_share)
        self._take("optimizer", _flat(strategy.optimizer_state(optimizer)))

    def _weigh_states(self, optimizer: Optimizer, share: float) -> None:
        """Notes how much of the optimizer's state is here, and how much may be: a share of each kind of all of it."""
        kinds = set()
        for parameter, state in optimizer.state.items():
            for kind, value in state.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape and value.ndim:
                    kinds.add(kind)
                    self._own.local_states += local(value).numel()
        stepped = {str(i): p for i, p in enumerate(p for group in optimizer.param_groups for p in group["params"])}
        self._own.permitted_states = len(kinds) * _permitted(stepped, share)

    def _take(self, kind: str, named: Mapping[str, Tensor]) -> None:
        # Copied: what a strategy returns may be the run's own memory.
        for name, tensor in named.items():
            self._tensors[f"{kind}/{name}"] = tensor.detach().clone(memory_format=torch.contiguous_format)

    def _write(self) -> None:
        from safetensors.torch import save_file

        save_file(self._tensors, self._folder / _TENSORS)
        write_json(self._folder / _FACTS, asdict(self._facts))


def _same(own: Tensor | None, other: Tensor) -> bool:
    return own is not None and own.dtype == other.dtype and torch.equal(own.cpu(), other.cpu())


def _flat(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Returns the tensors of an optimizer's state and the numbers of its groups; nothing of an empty state."""
    found: dict[str, Tensor] = {}
    for index, state in content.get("state", {}).items():
        found |= {f"{index}.{key}": torch.as_tensor(x) for key, x in state.items() if x is not None}
    for index, group in enumerate(content.get("param_groups", ())):
        for key, value in group.items():
            if isinstance(value, float) or key == "params":
                found[f"group {index}.{key}"] = torch.tensor(value, dtype=torch.float64)
    return found


def _change(tensor: Tensor, before: Tensor) -> float:
    """Returns the largest change of a value; of what is no real number whether there was one."""
    if tensor.is_complex() or tensor.dtype == torch.bool:
        return float(not tensor.equal(before))
    return float((tensor - before).abs().max()) if tensor.numel() else 0.0


def _permitted(named: Mapping[str, Tensor], share: float) -> int:
    """Returns how many elements a share is where tensors are split by whole rows, rounded up."""
    total = 0
    for parameter in named.values():
        rows = parameter.shape[0] if parameter.ndim else 1
        total += math.ceil(rows * share - 1e-9) * (parameter.numel() // max(1, rows))
    return total


def _detached(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in named.items()}
