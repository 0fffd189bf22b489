"""Which launcher ``sweep.launcher`` names."""

from __future__ import annotations

from pathlib import Path

from segframe.sweep.launch.job import Launcher
from segframe.sweep.settings import Settings


def launcher(settings: Settings, folder: Path) -> Launcher:
    """Returns what starts the trials of a sweep.

    Args:
        settings: Those of the sweep.
        folder: The sweep folder.

    Raises:
        ConfigError: If its package or its engine is missing.
    """
    if settings.launcher == "slurm":
        from segframe.sweep.launch.slurm import SlurmLauncher

        return SlurmLauncher(settings.parallel, settings.slurm, folder)
    if settings.launcher == "ray":
        from segframe.sweep.launch.ray import RayLauncher

        return RayLauncher(settings.parallel, settings.ray, folder)
    from segframe.sweep.launch.local import LocalLauncher

    return LocalLauncher(settings.parallel)
