"""The keys of a configuration that belong to no constructor: who runs, from where and into which folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le


@dataclass(frozen=True)
class Settings:
    """The plain keys at the root of a configuration.

    Attributes:
        seed: Decides initial weights, order and augmentation.
        resume: The run folder that goes on where it was stopped.
        init_from: A checkpoint or run folder whose fitting weights are loaded.
        check: How much of the data is looked at before training.
    """

    seed: Annotated[int, Ge(0), Le(4294967295)]
    resume: str | None
    init_from: str | None
    check: Literal["full", "sample", "none"]


@dataclass(frozen=True)
class Run:
    """The section ``run``.

    Attributes:
        dir: The folder that holds everything the run writes.
        name: A label for loggers; None takes the folder's name.
    """

    dir: str
    name: str | None


class Dataset:
    """The keys of the section ``dataset`` that every data set has; each has further ones of its own.

    Args:
        cache: Where decoded pixels are kept.
        cache_dir: The folder of ``cache=disk``; None takes the user's own.
        others: What the data set's file names.
    """

    def __init__(self, cache: Literal["none", "ram", "disk"], cache_dir: str | None, **others: Any) -> None:
        self.cache, self.cache_dir, self.others = cache, cache_dir, others
