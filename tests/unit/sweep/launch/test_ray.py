import socket

import pytest

from segframe.config.options import ConfigError
from segframe.sweep.launch.job import Need
from segframe.sweep.launch.ray import RayLauncher
from segframe.sweep.settings import Ray


def test_a_cluster_that_is_gone_is_told_before_ray_waits_for_it(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = free.getsockname()
    launcher = RayLauncher.__new__(RayLauncher)  # one that was connected, to what has ended since
    launcher._options, launcher._place = Ray("auto", 1, None), place
    with pytest.raises(
        ConfigError, match=r"sweep\.ray\.address=auto: the Ray cluster is gone .*the same command goes on"
    ):
        launcher.start(0, [], tmp_path / "trial", Need(1, 1))
    assert not (tmp_path / "trial").exists()
