import pytest

from segframe.config.options import ConfigError
from segframe.sweep.launch import slurm_jobs


def test_a_job_that_may_still_wait_is_not_started_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # a machine without squeue
    description = slurm_jobs.described("17", "slurm", tmp_path)
    with pytest.raises(ConfigError, match="SLURM as job 17, and squeue does not answer"):
        slurm_jobs.left(description, tmp_path)
    (tmp_path / "17_0_result.pkl").touch()
    assert slurm_jobs.left(description, tmp_path) is None
