"""The passes of a net whose consecutive stages are on several ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

from segframe.contracts import SegmentationOutput
from segframe.parallel import older_pipelines
from segframe.parallel.batch_norm import SharedBatchNorm
from segframe.parallel.crossing import Form, pack, random_state, set_random_state, unpack

Objective = Callable[[int, SegmentationOutput], Tensor]


class _Route(NamedTuple):
    """What crosses to and from this rank for images of one kind, and what the net makes of them."""

    incoming: tuple[Form, ...]
    outgoing: tuple[Form, ...]
    result: tuple[Form, ...]


class Pipeline:
    """Runs this rank's stages of a net, together with the ranks before and behind it.

    Training follows a schedule of ``torch.distributed.pipelining``; an evaluation goes from rank to rank. What crosses
    is found out in the first pass over images of a kind, on real values, so that any net and precision works.

    Huang et al., "GPipe", NeurIPS 2019; Narayanan et al., "PipeDream", SOSP 2019 (1F1B).

    Args:
        net: The net, of which this rank has some stages.
        stages: This rank's.
        group: The ranks that hold the net's stages, in their order.
        device: This rank's.
        schedule: ``gpipe``: all forward passes, then all backward passes; ``1f1b``: in turn, as soon as they can be,
            so that fewer activations wait. With fewer micro-batches than ranks both are the same.
    """

    def __init__(
        self,
        net: nn.Module,
        stages: Sequence[Callable[..., Any]],
        group: ProcessGroup,
        device: torch.device,
        schedule: Literal["gpipe", "1f1b"],
    ) -> None:
        self.index, self.size = group.rank(), group.size()
        self.bytes_sent: int | None = None
        self._net, self._stages, self._group, self._device = net, tuple(stages), group, device
        self._kind = schedule
        self._ranks = dist.get_process_group_ranks(group)
        self._routes: dict[Any, _Route] = {}
        self._schedules: dict[Any, tuple[_Part, Any]] = {}
        self._objective: Objective | None = None

    @property
    def is_first(self) -> bool:
        """Whether the image enters here."""
        return self.index == 0

    @property
    def is_last(self) -> bool:
        """Whether the net's output comes out here."""
        return self.index == self.size - 1

    def __call__(self, image_BCHW: Tensor) -> SegmentationOutput:
        """Runs a forward pass without gradients (collective).

        Args:
            image_BCHW: The same on every rank.

        Returns:
            The net's output on the last rank; elsewhere zeros of the same shapes, which take no memory.

        Raises:
            ValueError: If gradients are asked for.
        """
        if torch.is_grad_enabled():
            raise ValueError(
                "a net whose layers are on several ranks computes gradients only in training steps; call it within "
                "torch.no_grad()."
            )
        key = self._key(image_BCHW)
        if key in self._routes:
            route = self._routes[key]
            outputs = self.run((image_BCHW,) if self.is_first else self._receive(route.incoming))
            if not self.is_last:
                self._send(outputs, route.outgoing)
        else:
            route, outputs = self._explore(image_BCHW)
            self._routes[key] = route
        if not self.is_last:
            outputs = tuple(torch.zeros((), dtype=f.dtype, device=self._device).expand(f.shape) for f in route.result)
        return SegmentationOutput(outputs[0], outputs[1:])

    def train(self, images: Sequence[Tensor], objective: Objective, seed: Callable[[int], None]) -> None:
        """Runs the forward and backward passes of a step's micro-batches (collective).

        Args:
            images: One batch per micro-batch, all of one shape; the same on every rank.
            objective: Called on the last rank, for each micro-batch in order, with its number and the net's output;
                returns what is differentiated.
            seed: Called on the first rank with a micro-batch's number before its forward pass; what the generators
                are left at goes on to the next rank, so that layers draw what they draw in one process.
        """
        key = (len(images), self._key(images[0]))
        if key not in self._schedules:
            self._schedules[key] = self._prepare(images[0], len(images))
        part, schedule = self._schedules[key]
        part.begin(seed)
        self._objective = objective
        given = (torch.cat(tuple(images)) if len(images) > 1 else images[0],) if self.is_first else ()
        target = torch.arange(len(images)) if self.is_last else None
        try:
            schedule.step(*given, target=target, return_outputs=False)
        except RuntimeError as error:
            # The schedule puts its own words around what a layer raises.
            if isinstance(error.__cause__, Exception):
                raise error.__cause__ from None
            raise
        finally:
            self._objective = None

    def run(self, values: tuple[Any, ...]) -> tuple[Tensor, ...]:
        """Returns what this rank's stages make of tensors; a net's output as logits and auxiliary maps in a row."""
        result: Any = values
        for stage in self._stages:
            result = stage(*(result if isinstance(result, tuple) else (result,)))
        if isinstance(result, SegmentationOutput):
            return (result.logits, *result.auxiliary)
        return result if isinstance(result, tuple) else (result,)

    def _prepare(self, image: Tensor, num_parts: int) -> tuple[_Part, Any]:
        """Finds out what crosses in training, and makes the schedule."""
        with self._nothing_changes(), torch.enable_grad():
            route, _ = self._explore(image)
        state = (random_state(self._device).to("meta"),)
        inputs = (image.to("meta"),) if self.is_first else (*(f.meta() for f in route.incoming if f.size), *state)
        outputs = tuple(f.meta() for f in route.outgoing if f.size) + (() if self.is_last else state)
        part = _Part(self, route)
        stage = self._stage(part, route, inputs, outputs)
        kind = ScheduleGPipe if self._kind == "gpipe" or num_parts < self.size else Schedule1F1B
        forward = 0 if self.is_last else sum(form.num_bytes for form in route.outgoing)
        self.bytes_sent = num_parts * (forward + sum(form.num_bytes for form in route.incoming if form.learns))
        return part, kind(stage, num_parts, loss_fn=self._loss, scale_grads=False)

    def _stage(
        self, part: _Part, route: _Route, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
    ) -> PipelineStage:
        given = (part, self.index, self.size, self._device, inputs, outputs)
        if not older_pipelines.is_needed():
            return PipelineStage(*given, group=self._group)
        # Behind the others stands the state of the generators, which has no gradient.
        learns_in = [False] if self.is_first else [*(form.learns for form in route.incoming if form.size), False]
        learns_out = [*(form.learns for form in route.outgoing if form.size), False]
        return older_pipelines.ForwardOnlyStage(*given, self._group, learns_in, learns_out)

    def _loss(self, outputs: tuple[Tensor, ...], number: Tensor) -> Tensor:
        assert self._objective is not None
        return self._objective(int(number), SegmentationOutput(outputs[0], tuple(outputs[1:])))

    def _explore(self, image: Tensor) -> tuple[_Route, tuple[Tensor, ...]]:
        """Runs a forward pass in which every rank tells the next one what comes."""
        incoming: tuple[Form, ...] = ()
        if not self.is_first:
            told: list[Any] = [None]
            dist.recv_object_list(told, self._ranks[self.index - 1], group=self._group, device=self._device)
            incoming = told[0]
        outputs = self.run((image,) if self.is_first else self._receive(incoming))
        forms = tuple(Form.of(x) for x in outputs)
        if not self.is_last:
            dist.send_object_list([forms], self._ranks[self.index + 1], group=self._group, device=self._device)
            self._send(outputs, forms)
        result = [forms]
        dist.broadcast_object_list(result, self._ranks[-1], group=self._group, device=self._device)
        return _Route(incoming, forms, result[0]), outputs

    def _send(self, outputs: Sequence[Tensor], forms: Sequence[Form]) -> None:
        for flat in pack(outputs, forms):
            dist.send(flat.detach(), self._ranks[self.index + 1], group=self._group)
        if self._net.training:
            dist.send(random_state(self._device), self._ranks[self.index + 1], group=self._group)

    def _receive(self, forms: Sequence[Form]) -> tuple[Tensor, ...]:
        flats = [torch.empty(f.size, dtype=f.dtype, device=self._device) for f in forms if f.size]
        for flat, form in zip(flats, (f for f in forms if f.size), strict=True):
            dist.recv(flat, self._ranks[self.index - 1], group=self._group)
            flat.requires_grad_(form.learns and torch.is_grad_enabled())
        if self._net.training:
            state = torch.empty_like(random_state(self._device))
            dist.recv(state, self._ranks[self.index - 1], group=self._group)
            set_random_state(state, self._device)
        return unpack(flats, forms, self._device)

    def _key(self, image: Tensor) -> Any:
        kind = self._device.type
        autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        return tuple(image.shape), image.dtype, self._net.training, autocast

    @contextmanager
    def _nothing_changes(self) -> Iterator[None]:
        """Puts buffers and the generators' states back."""
        state = random_state(self._device)
        # Pipelines beside this one may know these images' kind already, and would not come to a BatchNorm of all.
        shared = [m for m in self._net.modules() if isinstance(m, SharedBatchNorm) and m.training]
        for norm in shared:
            norm.training = False
        buffers = [(buffer, buffer.clone()) for buffer in self._net.buffers()]
        try:
            yield
        finally:
            for norm in shared:
                norm.training = True
            set_random_state(state, self._device)
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)


class _Part(nn.Module):
    """A rank's stages as a schedule calls them: flat tensors and the state of the generators in and out."""

    def __init__(self, pipeline: Pipeline, route: _Route) -> None:
        super().__init__()
        self._pipeline, self._route = pipeline, route
        self._seed: Callable[[int], None] | None = None
        self._number = 0

    def begin(self, seed: Callable[[int], None]) -> None:
        """Counts the micro-batches of a step from 0."""
        self._seed, self._number = seed, 0

    def forward(self, *received: Tensor) -> tuple[Tensor, ...]:
        """Runs the stages on the next micro-batch."""
        pipeline, device = self._pipeline, received[0].device
        if pipeline.is_first:
            assert self._seed is not None
            self._seed(self._number)
            values: tuple[Tensor, ...] = received
        else:
            set_random_state(received[-1], device)
            values = unpack(received[:-1], self._route.incoming, device)
        self._number += 1
        outputs = pipeline.run(values)
        if pipeline.is_last:
            return outputs
        return (*pack(outputs, self._route.outgoing), random_state(device))
