"""The training loader: where a pass begins, and how long the run waited for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader

from segframe.data.sampler import TrainBatchSampler
from segframe.data.samples import Sample, TrainSamples

Position = tuple[int, int]
"""(epoch, batch of the epoch), both from 0."""


class TrainLoader(DataLoader[Sample]):
    """A DataLoader that asks where it stands each time a pass begins.

    Attributes:
        waited_s: Seconds that were spent waiting for batches, since it was made.
    """

    def __init__(
        self,
        dataset: TrainSamples,
        sampler: TrainBatchSampler,
        position: Callable[[], Position],
        **options: Any,
    ) -> None:
        self._train_sampler, self._position = sampler, position
        self.waited_s = 0.0
        options["batch_sampler"] = sampler
        super().__init__(dataset, **options)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Begins a pass at the trainer's position."""
        self._train_sampler.set_position(*self._position())
        started = time.perf_counter()
        batches = super().__iter__()  # the first pass starts the loader's processes here
        self.waited_s += time.perf_counter() - started
        return self._timed(batches)

    def _timed(self, batches: Iterator[Any]) -> Iterator[Any]:
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self.waited_s += time.perf_counter() - started
            if batch is None:
                return
            yield batch
