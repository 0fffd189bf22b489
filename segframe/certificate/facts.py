"""What is known of a run beside its tensors: of every rank, and of all together."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class RankFacts:
    """What one rank saw and did.

    Attributes:
        rank: Its number.
        process: Its process id.
        data_rank: Its number among those that share the data.
        data_size: How many share the data.
        rows: Which part of how many of each image's rows it had.
        samples: For each step the draws of its part of the batch.
        ignored: For each step how many of its pixels were ignored.
        evaluated: The validation images that it counted.
        local_parameters: Elements of parameters that it held; names and shapes of others' don't count.
        permitted_parameters: The most that it may hold by what its strategy promises to split.
        local_gradients: Elements of gradients that it held when it stepped.
        local_states: Elements of the optimizer's state that it held, as far as it goes by parameters' elements.
        permitted_states: The most that it may hold of that.
        random_layers: Layers that draw random numbers, and whether each did.
    """

    rank: int
    process: int
    data_rank: int
    data_size: int
    samples: list[list[int]] = field(default_factory=list)
    ignored: list[int] = field(default_factory=list)
    evaluated: list[int] = field(default_factory=list)
    local_parameters: int = 0
    permitted_parameters: int = 0
    random_layers: dict[str, bool] = field(default_factory=dict)
    local_gradients: int = 0
    local_states: int = 0
    permitted_states: int = 0
    rows: tuple[int, int] = (0, 1)


@dataclass
class Facts:
    """What rank 0 knows of the whole run.

    Attributes:
        losses: The loss of every step.
        metrics: What the evaluation at the end logged.
        num_parameters: Elements of the whole model's parameters.
        num_micro_batches: Into how many parts each rank's share of a batch was cut.
        clip: ``[value, algorithm]`` of gradient clipping, None without.
        gradient_norms: Of the recorded gradients, as clipping measures them.
        moved: By how much parameters and buffers changed at most, from start to end.
        num_val: Images of the validation set.
        labelled_pixels: Labelled pixels of the validation set, counted from its masks.
        not_in_checkpoint: Parameters and buffers that a checkpoint holds otherwise, or not at all.
        ties: Pixels of rank 0's evaluation whose best two classes differences within the tolerance could swap.
    """

    losses: list[float] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    num_parameters: int = 0
    num_micro_batches: int = 1
    clip: tuple[float, str] | None = None
    gradient_norms: dict[str, float] = field(default_factory=dict)
    moved: dict[str, float] = field(default_factory=dict)
    num_val: int = 0
    labelled_pixels: int = 0
    not_in_checkpoint: list[str] = field(default_factory=list)
    ties: int = 0
