"""The LightningModule: what a training and an evaluation step compute.

Shape suffixes: B batch, C channels, K classes, H rows, W columns; n statistics of a loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from segframe import memory
from segframe.contracts import FILLER, IGNORE_INDEX, Batch, Loss, LossTerms, SegmentationOutput
from segframe.inference import Inference
from segframe.metrics.confusion import ConfusionMatrix
from segframe.metrics.per_image import ImageCounts, image_counts
from segframe.metrics.scores import iou, summary
from segframe.nonfinite import LossCheck
from segframe.parallel.seam import Seam
from segframe.ranges import NonNegative, NonNegativeInt

Preprocess = Callable[..., Tensor]


class SegmentationTask(pl.LightningModule):
    """Trains a net on the exact loss of the global batch and scores it by one summed confusion matrix.

    Args:
        net: The segmentation model; its parameter names are those of the checkpoint, after ``net.``.
        loss: Maps logits and masks to summable terms.
        optimizer: Makes the optimizer of a net.
        scheduler: Makes the learning-rate schedule of (optimizer, total_steps), stepped per step.
        preprocess: Turns a batch's uint8 images into the net's normalised input.
        classes: Class names in the order of their ids.
        palette: One (red, green, blue) per class.
        seed: With the step, decides dropout.
        auxiliary_weight: Weight of every auxiliary head's loss against the main one.
        channels_last: Whether nets and images are kept in NHWC memory order.
        compile: Whether the net is compiled.
        activation_checkpointing: Whether activations are recomputed in the backward pass.
        absent: What a class that never occurs counts as in means.
        inference: How whole images are evaluated.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: Loss,
        optimizer: Callable[[nn.Module], Optimizer],
        scheduler: Callable[[Optimizer, int], LRScheduler],
        preprocess: Preprocess,
        classes: Sequence[str],
        palette: Sequence[tuple[int, int, int]],
        inference: Inference,
        seed: NonNegativeInt = 0,
        auxiliary_weight: NonNegative = 0.4,
        channels_last: bool = True,
        compile: bool = False,  # noqa: A002
        activation_checkpointing: bool = False,
        absent: Literal["drop", "zero", "one"] = "drop",
    ) -> None:
        super().__init__()
        self.net, self.loss, self.preprocess, self.inference = net, loss, preprocess, inference
        self.classes, self.palette = list(classes), list(palette)
        self.absent: Literal["drop", "zero", "one"] = absent
        self.confusion = ConfusionMatrix(len(self.classes), ignore_index=IGNORE_INDEX)
        self.per_image: list[ImageCounts] = []
        self.step_loss = torch.zeros(())
        self.step_empty = torch.zeros((), dtype=torch.int64)
        self.evaluated_step = -1
        self.has_trained = False
        self._make_optimizer, self._make_scheduler = optimizer, scheduler
        self._seed, self.auxiliary_weight = seed, auxiliary_weight
        self._channels_last, self.compiles = channels_last, compile
        self._activation_checkpointing = activation_checkpointing
        self._configured = False
        self._validation_statistics: Tensor | None = None
        self._finish: Callable[[Tensor], Tensor] | None = None
        self._finite = LossCheck()

    def configure_model(self) -> None:
        """Applies what changes how and where the net runs but not what it computes; a second call does nothing."""
        if self._configured:
            return
        self._configured = True
        if self._activation_checkpointing:
            memory.checkpoint_activations(self.net)
        if self._channels_last:
            self.net.to(memory_format=torch.channels_last)
        # Before a checkpoint is loaded, which would be rounded to what the net was made in.
        self.trainer.precision_plugin.convert_module(self.net)
        self._strategy.parallelize(self.net)
        if self.compiles:
            self.net.compile()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Makes the optimizer and its schedule over the whole run."""
        optimizer = self._make_optimizer(self.net)
        total_steps = int(self.trainer.estimated_stepping_batches)
        scheduler = self._make_scheduler(optimizer, total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Does nothing: ``training_step`` clears gradients itself, before its first micro-batch."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns a scalar whose gradient, averaged over ranks, is that of the global batch's loss.

        All micro-batches but the last run their backward pass here; Lightning runs the last one's.
        """
        self._finite.check()
        trainer = self.trainer
        step, parts = trainer.global_step, int(getattr(trainer, "num_micro_batches", 1))
        trainer.optimizers[0].zero_grad()
        image = self._input(batch, training=True)
        target = batch.mask.long()
        self._count_valid(batch.mask)
        if parts == 1 and not self._strategy.is_cut:
            self._seed_dropout(step, 0)
            result = self._whole_step(image, target)
        else:
            result = self._accumulated_step(image, target, step, parts)
        self._finite.note(self.step_loss, batch, step)
        return result

    def _count_valid(self, mask: Tensor) -> None:
        valid = (mask != IGNORE_INDEX).any().long()
        self.step_empty = (self._sum_over_ranks(valid) == 0).long()

    def _whole_step(self, image: Tensor, target: Tensor) -> Tensor:
        terms = self._terms(self.net(image), target, image.shape[-2])
        if self._num_ranks == 1:
            value = terms.value
            self.step_loss = value.detach()
            return value
        total = self._sum_over_ranks(terms.statistics.detach())
        self.step_loss, slope = terms.value_and_slope(total)
        return (terms.statistics * slope).sum() * self._num_ranks

    def _accumulated_step(self, image: Tensor, target: Tensor, step: int, parts: int) -> Tensor:
        if len(image) % parts:
            raise ValueError(
                f"a rank's share of the batch, {len(image)} images, must divide into "
                f"trainer.accumulate_grad_batches={parts} equal parts; change that or data.batch_size."
            )
        images, targets = image.chunk(parts), target.chunk(parts)
        prior = self.loss.target_statistics(target)
        known = self._dry_run(images, targets, step) if prior is None else self._sum_over_ranks(prior)
        seen: list[LossTerms] = []
        slope: Tensor | None = None

        def objective(part: int, output: SegmentationOutput) -> Tensor:
            nonlocal slope
            terms = self._terms(output, targets[part], image.shape[-2])
            if slope is None:
                repeats = terms.statistics.numel() // known.numel()
                slope = terms.value_and_slope(known.repeat(repeats))[1]
            seen.append(LossTerms(terms.statistics.detach(), terms.finish))
            return (terms.statistics * slope).sum() * self._num_ranks

        result = self._strategy.run_parts(self.net, images, objective, lambda part: self._seed_dropout(step, part))
        self.step_loss = self._strategy.agree(self._finished(seen))
        return result

    def _finished(self, seen: Sequence[LossTerms]) -> Tensor:
        """Returns the loss of all ranks' micro-batches; 0 where this rank has seen none."""
        if not seen or not self._strategy.counts:
            return torch.zeros((), device=self.device)
        statistics = torch.stack([terms.statistics for terms in seen]).sum(0)
        return seen[0].finish(self._sum_over_ranks(statistics))

    @torch.no_grad()
    def _dry_run(self, images: Sequence[Tensor], targets: Sequence[Tensor], step: int) -> Tensor:
        """Returns the statistics of all micro-batches, for losses that no mask alone normalises."""
        buffers = [(buffer, buffer.clone()) for buffer in self.net.buffers()]
        total = None
        for part, (x, y) in enumerate(zip(images, targets, strict=True)):
            self._seed_dropout(step, part)
            statistics = self._terms(self.net(x), y, x.shape[-2]).statistics
            total = statistics if total is None else total + statistics
        for buffer, before in buffers:
            buffer.copy_(before)
        assert total is not None
        return self._sum_over_ranks(total)

    def _terms(self, output: SegmentationOutput, target: Tensor, height: int) -> LossTerms:
        """Returns the loss of this rank's pixels of images of so many rows."""
        maps = output.at_size(height, target.shape[-1])
        logits, *auxiliary = (_full_precision(self._strategy.own(x)) for x in (maps.logits, *maps.auxiliary))
        main = self.loss(logits, target)
        if not auxiliary or self.auxiliary_weight == 0:
            return main
        extra = [(self.auxiliary_weight, self.loss(x, target)) for x in auxiliary]
        return LossTerms.weighted_sum([(1.0, main), *extra])

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Counts the predictions of whole images into the confusion matrix and the loss statistics."""
        strategy = self._strategy
        scores = strategy.own(self.inference(self.net, self._input(batch, training=False)))
        if not strategy.counts:
            return
        terms = self.loss(scores, batch.mask.long())
        self._finish = terms.finish
        prediction, mask, statistics = strategy.computed(scores.argmax(1), batch.mask, terms.statistics.detach())
        statistics = statistics.cpu().double()
        if FILLER in batch.indices:
            statistics.zero_()
        if self._validation_statistics is not None:
            statistics = statistics + self._validation_statistics
        self._validation_statistics = statistics
        for row, name in enumerate(batch.names):
            if batch.indices[row] == FILLER:
                continue
            before = self.confusion.matrix
            self.confusion.update(prediction[row], mask[row])
            of_image = strategy.sum_over_image(self.confusion.matrix - before).cpu()
            miou = summary(of_image, "drop")["miou"]
            self.per_image.append(image_counts(int(batch.indices[row]), name, miou, of_image.numpy()))

    def predict(self, batch: Batch) -> Tensor:
        """Returns the predicted class ids (B, H, W) of whole images, on every rank, all of which call it."""
        part = batch.part(*self._strategy.row_part)
        scores = self._strategy.own(self.inference(self.net, self._input(part, training=False)))
        return self._strategy.whole_map(scores.argmax(1), batch.height)

    def on_validation_epoch_start(self) -> None:
        """Forgets the counts of the last evaluation."""
        self.confusion.reset()
        self.per_image.clear()
        self._validation_statistics = None

    def on_validation_epoch_end(self) -> None:
        """Logs the scores of all ranks' images together."""
        matrix = self.confusion.compute()
        self.per_image = sorted(self._strategy.gather(self.per_image), key=lambda image: image.position)
        values = {f"val/{name}": value for name, value in summary(matrix, self.absent).items()}
        per_class = iou(matrix, self.absent).tolist()
        values |= {f"val/iou/{name}": v for name, v in zip(self.classes, per_class, strict=True)}
        loss = torch.full((), math.nan, device=self.device)
        if self._validation_statistics is not None and self._finish is not None:
            total = self._sum_over_ranks(self._validation_statistics.to(self.device))
            loss = self._finish(total.cpu()).to(self.device)
        values["val/loss"] = float(self._strategy.agree(loss))
        self.evaluated_step = self.trainer.global_step
        # Not self.log: it would average over ranks what has been summed over them already, and count steps from 0.
        self.trainer.callback_metrics.update({k: torch.tensor(v, dtype=torch.float64) for k, v in values.items()})
        logged = {"epoch": self.current_epoch} | {k: v for k, v in values.items() if not math.isnan(v)}
        for logger in self.trainer.loggers:
            logger.log_metrics(logged, step=self.evaluated_step)

    def worst_images(self, count: int) -> list[int]:
        """Returns the positions of the validation images of the lowest mean IoU, worst first."""
        scored = [(image.miou, image.position) for image in self.per_image]
        return [index for score, index in sorted(s for s in scored if not math.isnan(s[0]))[:count]]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses the checkpoint of another net.

        Raises:
            ValueError: If names or shapes differ; names the first.
        """
        saved, own = checkpoint["state_dict"], self.state_dict()
        wrong = sorted(set(own) ^ set(saved)) or [name for name in own if own[name].shape != saved[name].shape]
        if wrong:
            raise ValueError(
                f"the checkpoint belongs to another model: {len(wrong)} parameters differ, the first is {wrong[0]}. "
                "Go on with the model of the run, or start a new run from its weights with init_from=RUN."
            )

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Notes that the run had a step left, and has got past everything that can refuse it."""
        self.has_trained = True

    def on_train_end(self) -> None:
        """Checks the last step's loss too."""
        self._finite.check()

    def _input(self, batch: Batch, training: bool) -> Tensor:
        dtype = next(self.net.parameters()).dtype
        epoch = self.current_epoch if training else None
        image = self.preprocess(batch, epoch=epoch, dtype=dtype, sum_over_image=self._strategy.sum_over_image)
        layout = torch.channels_last if self._channels_last else torch.contiguous_format
        return self._strategy.distribute(image.contiguous(memory_format=layout), batch.height)

    def _seed_dropout(self, step: int, part: int) -> None:
        """Makes randomness inside the net a pure function of (seed, step, micro-batch), the same on every rank."""
        # What has to differ between ranks the strategy's layers draw differently; 0 is the place of a rank's number.
        value = hash((self._seed, step, part, 0)) & (2**63 - 1)
        torch.default_generator.manual_seed(value)
        self._strategy.seed_device(value)

    @property
    def _num_ranks(self) -> int:
        return self._strategy.num_averaged

    def _sum_over_ranks(self, value: Tensor) -> Tensor:
        return self._strategy.sum_over_ranks(value)

    @property
    def _strategy(self) -> Seam:
        strategy: object = self.trainer.strategy
        if not isinstance(strategy, Seam):
            raise TypeError(
                f"{type(strategy).__name__} is no strategy of segframe; give it segframe.parallel.seam.Seam as its "
                "first parent, or take one of conf/strategy."
            )
        return strategy


def _full_precision(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
