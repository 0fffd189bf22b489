"""Tells Lightning which process of how many this is; the processes are started by segframe, torchrun or srun."""

from __future__ import annotations

import os

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment

from segframe.ranks import place


class RankEnvironment(ClusterEnvironment):
    """The place of this process as ``segframe.ranks`` reads it from the environment."""

    @property
    def creates_processes_externally(self) -> bool:
        """True: Lightning starts no process."""
        return True

    @property
    def main_address(self) -> str:
        """The host of rank 0."""
        return os.environ.get("MASTER_ADDR", "127.0.0.1")

    @property
    def main_port(self) -> int:
        """The port that rank 0 listens on; 0 where there is one process."""
        return int(os.environ.get("MASTER_PORT", "0"))

    @staticmethod
    def detect() -> bool:
        """Returns False: strategies of segframe bring it along."""
        return False

    def world_size(self) -> int:
        """Returns the number of processes on all nodes."""
        return place().world_size

    def set_world_size(self, size: int) -> None:
        """Does nothing: who started the processes decides."""

    def global_rank(self) -> int:
        """Returns the number of this process among all, from 0."""
        return place().rank

    def set_global_rank(self, rank: int) -> None:
        """Does nothing: who started the processes decides."""

    def local_rank(self) -> int:
        """Returns the number of this process on its node, from 0."""
        return place().local_rank

    def node_rank(self) -> int:
        """Returns the number of this node, from 0."""
        return place().node_rank
