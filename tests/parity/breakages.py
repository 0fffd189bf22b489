"""What the certificate must notice: each function is called in every rank of a strategy's run and breaks one thing."""

from __future__ import annotations


def mean_of_local_means() -> None:
    """Every rank divides by its own count of pixels."""
    from segframe.task import SegmentationTask

    def of_this_rank(self, value):
        return value * self.trainer.world_size

    SegmentationTask._sum_over_ranks = of_this_rank


def shifted_training_samples() -> None:
    """Every rank but the first trains on its neighbour's samples."""
    from segframe.data.sampler import TrainBatchSampler

    right = TrainBatchSampler._places

    def shifted(self):
        return right(self) - (1 if self.rank else 0)

    TrainBatchSampler._places = shifted


def repeated_evaluation_images() -> None:
    """Ranks evaluate equally many images, as torch's DistributedSampler has it: some of them twice."""
    from segframe.data.sampler import EvalBatchSampler

    right = EvalBatchSampler.__init__

    def padded(self, num_samples, batch_size, rank=0, world_size=1):
        right(self, num_samples, batch_size, rank, world_size)
        self.indices = [(rank + i * world_size) % num_samples for i in range(-(-num_samples // world_size))]

    EvalBatchSampler.__init__ = padded


def no_clipping() -> None:
    """Gradients are not clipped."""
    from segframe.trainer import Trainer

    right = Trainer.__init__

    def without(self, **options):
        right(self, **options | {"gradient_clip_val": None})

    Trainer.__init__ = without


def whole_optimizer_state() -> None:
    """Every rank keeps the whole momentum beside its part."""
    import torch

    from segframe.parallel.fsdp import FSDP
    from segframe.sharding import full

    right = FSDP.optimizer_step

    def unsplit(self, optimizer, *args, **kwargs):
        result = right(self, optimizer, *args, **kwargs)
        for parameter, state in optimizer.state.items():
            state["copy"] = torch.zeros_like(full(parameter))
        return result

    FSDP.optimizer_step = unsplit


def forgetful_checkpoints() -> None:
    """A checkpoint leaves out the last parameter, and what the optimizer knows of the first."""
    from segframe.parallel.ddp import DDP

    weights, states = DDP.lightning_module_state_dict, DDP.optimizer_state

    def fewer_weights(self):
        return dict(list(weights(self).items())[:-1])

    def fewer_states(self, optimizer):
        content = states(self, optimizer)
        if content:
            content["state"].pop(0)
        return content

    DDP.lightning_module_state_dict, DDP.optimizer_state = fewer_weights, fewer_states


def another_schedule() -> None:
    """The rate falls to another end."""
    from segframe.trainer import Trainer

    right = Trainer.estimated_stepping_batches.fget
    Trainer.estimated_stepping_batches = property(lambda self: 2 * right(self))


def average_of_rank_0() -> None:
    """Only rank 0 keeps an average."""
    from segframe.callbacks.ema import Ema

    right = Ema.on_train_batch_end

    def only_here(self, trainer, *args):
        if trainer.is_global_zero:
            right(self, trainer, *args)

    Ema.on_train_batch_end = only_here


def own_random_numbers() -> None:
    """Every rank drops channels for itself."""
    from segframe.parallel import process_group

    process_group.share_randomness = lambda net, rank, size: []


def no_loss() -> None:
    """Nothing is learnt: the loss is multiplied by 0."""
    from segframe.task import SegmentationTask

    right = SegmentationTask.training_step

    def nothing(self, batch, batch_idx):
        return right(self, batch, batch_idx) * 0

    SegmentationTask.training_step = nothing


def one_rank_fails() -> None:
    """Rank 1 ends with a message."""
    from segframe.ranks import place

    if place().rank == 1:
        raise FileNotFoundError("the disk of rank 1 is gone")
