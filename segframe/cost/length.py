"""How many steps a measurement takes, and what each of them is for."""

WARM_UP = 3
"""Steps that aren't timed: memory is allocated, DDP rebuilds its buckets, FSDP finds its order."""

PROFILED = 2
"""Steps under the profiler, the last ones."""


def total_steps(timed: int) -> int:
    """Returns how many steps a measurement takes: warm-up, timed ones, one that counts memory, profiled ones.

    Args:
        timed: Steps whose time and traffic are measured.
    """
    return WARM_UP + timed + 1 + PROFILED
