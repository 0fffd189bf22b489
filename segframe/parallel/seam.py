"""What every strategy of segframe can do beside what Lightning asks of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from segframe.contracts import SegmentationOutput
from segframe.sharding import full, part_like, split_like


class Seam:
    """Where a strategy meets the task, the data module and checkpoints; the defaults are those of one device.

    Mixed into a Lightning ``Strategy``, before it in the order of parents. Methods marked *collective* are
    called by every rank, in the same order.
    """

    @property
    def data_rank(self) -> int:
        """This process among those that share the data set; ranks that hold parts of one image have the same."""
        return int(getattr(self, "global_rank", 0))

    @property
    def data_size(self) -> int:
        """How many share the data set."""
        return int(getattr(self, "world_size", 1))

    @property
    def parameter_share(self) -> float:
        """The share of the whole model's parameters that this rank promises to hold at most, between steps."""
        return 1.0

    @property
    def row_part(self) -> tuple[int, int]:
        """Which part of how many of each image's rows this rank holds, by ``Span.part``."""
        return 0, 1

    @property
    def is_cut(self) -> bool:
        """Whether the net's layers are on several ranks, so that most of them see no output of it."""
        return False

    @property
    def counts(self) -> bool:
        """Whether this rank's predictions count; False where it sees none of its own."""
        return True

    @property
    def num_averaged(self) -> int:
        """Over how many ranks a parameter's gradient is averaged; the sum is what a step needs."""
        return int(getattr(self, "world_size", 1))

    def parallelize(self, net: nn.Module) -> None:
        """Changes a net in place into this rank's part of it; called once, before optimizers are made.

        Args:
            net: The whole net, with the same values on every rank.

        Raises:
            ValueError: If it can't be split exactly; names the part.
        """

    def without_sync(self) -> AbstractContextManager[Any]:
        """Returns the context of a backward pass that others of the same step follow."""
        return nullcontext()

    def run_parts(
        self,
        net: Callable[[Tensor], SegmentationOutput],
        images: Sequence[Tensor],
        objective: Callable[[int, SegmentationOutput], Tensor],
        seed: Callable[[int], None],
    ) -> Tensor:
        """Runs the passes of a step's micro-batches, but for the backward pass of the last (*collective*).

        Args:
            net: The net.
            images: One batch per micro-batch, as ``distribute`` returns them.
            objective: Called for each in order with its number and the net's output; returns what is differentiated.
            seed: Called with a micro-batch's number before its forward pass.

        Returns:
            The last scalar, whose backward pass is still to come.
        """
        plugin: Any = getattr(self, "precision_plugin")  # noqa: B009 - the Lightning strategy's
        module: Any = getattr(self, "lightning_module")  # noqa: B009
        for part, image in enumerate(images):
            seed(part)
            value = objective(part, net(image))
            if part < len(images) - 1:
                with self.without_sync():
                    plugin.pre_backward(value, module).backward()
        return value

    def distribute(self, image_BChW: Tensor, height: int) -> Tensor:
        """Returns what the net takes of this rank's rows of images.

        Args:
            image_BChW: The rows of ``row_part``.
            height: Rows of whole images.
        """
        return image_BChW

    def own(self, x: Tensor) -> Tensor:
        """Returns this rank's rows of a map that the net made of what ``distribute`` gave."""
        return x

    def computed(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Returns the tensors of an evaluation step that are about to be read, wherever counting them is fastest."""
        return tensors

    def seed_device(self, value: int) -> None:
        """Seeds what is drawn on this rank's device, where that is not the CPU."""
        if torch.device(getattr(self, "root_device")).type == "cuda":  # noqa: B009 - the Lightning strategy's
            torch.cuda.manual_seed(value)

    def sum_over_image(self, value: Tensor) -> Tensor:
        """Returns the sum of a tensor over the ranks that hold rows of the same images (*collective*)."""
        return value

    def whole_map(self, x_BhW: Tensor, height: int) -> Tensor:
        """Returns a prediction (B, H, W) of whole images on every rank (*collective*).

        Args:
            x_BhW: What this rank has predicted.
            height: Rows H of whole images.
        """
        return x_BhW

    def sum_over_ranks(self, value: Tensor) -> Tensor:
        """Returns the sum of a tensor over the ranks that hold different pixels.

        *Collective* among these; where layers are on several ranks, among those with the same layers, each of which
        has all pixels of its images.
        """
        return value

    def agree(self, value: Tensor) -> Tensor:
        """Returns on every rank what a rank has that ``counts``, in any number format (*collective*)."""
        return value

    def gather(self, items: list[Any]) -> list[Any]:
        """Returns on every rank what the ranks have that count, each image's once (*collective*)."""
        return items

    def layout(self, batch_size: int, height: int | None) -> list[str]:
        """Returns lines that tell which rank holds what, where that is not told by the strategy's name.

        Args:
            batch_size: Samples of an optimizer step.
            height: Rows of a training sample; None where samples differ.
        """
        return []

    def whole(self, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns complete CPU tensors under the whole model's names on rank 0, nothing elsewhere (*collective*).

        Args:
            named: This rank's part of parameters, gradients, buffers or averages of them.
        """
        is_zero = bool(getattr(self, "is_global_zero", True))
        found = {}
        for name, tensor in named.items():
            complete = full(tensor)
            if is_zero:
                found[name] = complete.detach().cpu()
        return found

    def minimum_bytes_sent(self, net: nn.Module) -> int | None:
        """Returns the fewest bytes that this rank must send in an optimizer step, None where that is not known."""
        return None

    def teardown(self) -> None:
        """Lets go of what training needed; the net stays where it is, for what is predicted after a run."""
        for part in ("cluster_environment", "precision_plugin", "accelerator", "checkpoint_io"):
            owner: Any = getattr(self, part, None)
            if owner is not None:
                owner.teardown()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Returns an optimizer's state as one process would have it on rank 0, nothing elsewhere (*collective*)."""
        inner = optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        content = inner.state_dict()
        is_zero = bool(getattr(self, "is_global_zero", True))
        states = {}
        for index, state in content["state"].items():
            complete = {key: full(value) if isinstance(value, Tensor) else value for key, value in state.items()}
            if is_zero:
                states[index] = {k: v.cpu() if isinstance(v, Tensor) else v for k, v in complete.items()}
        return {**content, "state": states} if is_zero else {}

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Returns the whole model's state under its own names on rank 0, nothing elsewhere (*collective*)."""
        module: Any = getattr(self, "lightning_module")  # noqa: B009 - the Lightning strategy's
        return self.whole(module.state_dict())

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Takes this rank's part of a whole model's state."""
        module: Any = getattr(self, "lightning_module")  # noqa: B009
        module.load_state_dict(split_like(checkpoint["state_dict"], module.state_dict()), strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Takes this rank's part of the optimizers' state of one process."""
        optimizers: Any = getattr(self, "optimizers")  # noqa: B009
        for optimizer, content in zip(optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            states = {}
            for index, state in content["state"].items():
                own = parameters[int(index)]
                states[index] = {
                    key: part_like(v, own) if isinstance(v, Tensor) and v.shape == own.shape else v
                    for key, v in state.items()
                }
            optimizer.load_state_dict({**content, "state": states})
