"""How many steps a measurement takes, and what each of them is for."""

from __future__ import annotations

from typing import NamedTuple


class Length(NamedTuple):
    """The steps of a measurement, in this order; one that counts memory stands between the timed and the profiled.

    Attributes:
        warm_up: Steps that aren't timed: memory is allocated, DDP rebuilds its buckets, FSDP finds its order.
        timed: Steps whose time and traffic are measured.
        profiled: Steps under the profiler.
    """

    warm_up: int
    timed: int
    profiled: int

    @property
    def memory_step(self) -> int:
        """The number of the step whose memory is counted."""
        return self.warm_up + self.timed

    @property
    def counted(self) -> range:
        """The steps whose traffic is counted."""
        return range(self.warm_up, self.warm_up + max(1, self.timed))

    @property
    def total(self) -> int:
        """All steps."""
        return self.memory_step + 1 + self.profiled


def length_of(timed: int) -> Length:
    """Returns the steps of a measurement.

    Args:
        timed: Steps whose time and traffic are measured. With 0 the second step of two counts what needs no
            repetition, memory and traffic; in the first a pipeline finds out what crosses its cuts.
    """
    return Length(3, timed, 2) if timed else Length(1, 0, 0)
