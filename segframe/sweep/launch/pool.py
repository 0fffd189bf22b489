"""Cores and GPUs of this machine, handed out to trials that run at once and taken back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segframe.config.options import ConfigError
from segframe.sweep.launch.job import Need


@dataclass(frozen=True)
class Share:
    """What one trial has for itself.

    Attributes:
        cores: Numbers of logical cores.
        gpus: What CUDA_VISIBLE_DEVICES names GPUs by.
    """

    cores: tuple[int, ...]
    gpus: tuple[str, ...]


class Pool:
    """What there is, in equal shares for as many trials as run at once.

    Equal, though a core may be left over: the number of threads may change the last bits of a result.

    Args:
        cores: Logical cores, those of one physical core side by side.
        gpus: What CUDA_VISIBLE_DEVICES names them by.
        parallel: Trials at once.
    """

    def __init__(self, cores: Sequence[int], gpus: Sequence[str], parallel: int) -> None:
        self.cores, self.gpus, self._parallel = tuple(cores), tuple(gpus), parallel
        self._given: list[Share] = []

    @property
    def equal(self) -> Need:
        """What each of the trials has, at least one core, and one GPU where there are any."""
        gpus = max(1, len(self.gpus) // self._parallel) if self.gpus else 0
        return Need(ranks=1, cores=max(1, len(self.cores) // self._parallel), gpus=gpus)

    def check(self, needs: Sequence[Need]) -> None:
        """Checks that as many of the smallest trials fit as run at once.

        Args:
            needs: Of the trials.

        Raises:
            ConfigError: If they don't; says how many do.
        """
        for name, there, least in (
            ("core", len(self.cores), min((need.cores for need in needs), default=1)),
            ("GPU", len(self.gpus), min((need.gpus for need in needs), default=0)),
        ):
            if self._parallel * least <= there:
                continue
            if least > there and name == "GPU":
                raise ConfigError(
                    f"a trial takes {least} GPU{'s' if least > 1 else ''} and {there or 'none'} "
                    f"{'are' if there > 1 else 'is'} there; use trainer=cpu"
                    + (f", or trainer.devices={there}." if there else ".")
                )
            fits = max(1, there // least)
            each = f"trials of {least} {name}s each" if least > 1 else f"a {name} for each trial"
            raise ConfigError(
                f"sweep.parallel={self._parallel} needs {self._parallel * least} {name}s ({each}) and {there} "
                f"{'is' if there == 1 else 'are'} there; use sweep.parallel={fits}."
            )

    def has_room(self, need: Need) -> bool:
        """Whether what a trial takes is free."""
        cores, gpus = self._free()
        return len(self._given) < self._parallel and len(cores) >= need.cores and len(gpus) >= need.gpus

    def take(self, need: Need) -> Share:
        """Returns cores and GPUs that nobody else has until they are given back.

        Raises:
            RuntimeError: If they are not free; ``has_room`` comes first.
        """
        if not self.has_room(need):
            raise RuntimeError(f"{need} was taken where there is no room for it")
        cores, gpus = self._free()
        return self.keep(Share(tuple(cores[: need.cores]), tuple(gpus[: need.gpus])))

    def keep(self, share: Share) -> Share:
        """Takes cores and GPUs that a trial of an earlier driver still has.

        Args:
            share: What it has.
        """
        self._given.append(share)
        return share

    def give_back(self, share: Share) -> None:
        """Takes back what a trial had; once more does nothing.

        Args:
            share: The very one that was taken.
        """
        self._given = [given for given in self._given if given is not share]

    def _free(self) -> tuple[list[int], list[str]]:
        cores = {core for share in self._given for core in share.cores}
        gpus = {gpu for share in self._given for gpu in share.gpus}
        return [core for core in self.cores if core not in cores], [gpu for gpu in self.gpus if gpu not in gpus]
