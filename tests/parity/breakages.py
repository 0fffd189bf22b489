"""What the certificate must notice: each function is called in every rank of a strategy's run and breaks one thing."""

from __future__ import annotations

from dataclasses import replace


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


def no_halo() -> None:
    """Convolutions of split rows see zeros instead of their neighbours' rows."""
    from segframe.parallel.rows import convolution

    right = convolution.plan_exchange

    def alone(have, need, rows):
        plan = right(have, need, rows)
        return replace(plan, incoming=(), outgoing=())

    convolution.plan_exchange = alone


def batch_norm_of_own_rows() -> None:
    """BatchNorm sees one rank's rows alone."""
    import torch.distributed as dist

    from segframe.parallel import spatial

    right = spatial.share_over_rows

    def alone(net, of_rows, of_images):
        own = [dist.new_group([rank]) for rank in range(dist.get_world_size())][dist.get_rank()]
        return right(net, own, of_images)

    spatial.share_over_rows = alone


def rows_counted_twice() -> None:
    """The evaluation counts the last row of every rank's predictions once more."""
    from segframe.metrics.confusion import ConfusionMatrix

    right = ConfusionMatrix.update

    def more(self, prediction, target):
        right(self, prediction, target)
        right(self, prediction[..., -1:, :], target[..., -1:, :])

    ConfusionMatrix.update = more


def replicated_gradients_counted_by_every_rank() -> None:
    """What all ranks of an image compute alike is differentiated as if one rank had computed it."""
    from segframe.parallel.rows import global_pooling

    right = global_pooling._Sum.backward

    def more(ctx, gradient):
        return ctx.rows.size * right(ctx, gradient)[0], None

    global_pooling._Sum.backward = staticmethod(more)


def stages_normalise_alone() -> None:
    """The stages of pipelines side by side normalise by their own micro-batch."""
    from segframe.parallel import model_sharded

    model_sharded.share_batch_norm = lambda net, group: []


def a_stage_clips_alone() -> None:
    """The norm that clipping sees leaves out the other ranks' stages."""
    from segframe.parallel.model_sharded import ModelSharded
    from segframe.parallel.process_group import ProcessGroupStrategy

    ModelSharded.setup_precision_plugin = ProcessGroupStrategy.setup_precision_plugin


def a_stage_kept_by_all() -> None:
    """Every rank keeps the whole net."""
    from segframe.parallel import model_sharded

    model_sharded.keep_only = lambda net, kept: None
