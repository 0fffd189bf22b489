from __future__ import annotations

import pytest

from segframe.slurm import adopt

STEP = {
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "2",
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "8",
    "SLURM_STEP_NUM_TASKS": "6",
    "SLURM_STEP_TASKS_PER_NODE": "2(x3)",
    "SLURM_TASKS_PER_NODE": "4(x2)",
    "SLURM_STEP_NODELIST": "node[07-09]",
    "SLURM_JOB_ID": "4711",
    "SLURM_CPUS_PER_TASK": "3",
}


def test_srun_is_understood():
    environment = dict(STEP)
    assert adopt(environment)
    found = {key: text for key, text in environment.items() if not key.startswith("SLURM")}
    port = found.pop("MASTER_PORT")
    assert found == {
        "RANK": "5",
        "WORLD_SIZE": "6",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "2",
        "MASTER_ADDR": "node07",
        "OMP_NUM_THREADS": "3",
    }
    other = STEP | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    assert adopt(other)
    assert (other["MASTER_PORT"], other["MASTER_ADDR"]) == (port, "node07")


@pytest.mark.parametrize(
    "change",
    [
        {"RANK": "0"},  # torchrun inside a job
        {"SLURM_STEP_ID": ""},  # the shell of salloc
        {"SLURM_STEP_ID": "4294967291"},  # the script of sbatch
        {"SLURM_STEP_ID": "4294967290"},  # an interactive step
        {"SLURM_STEP_NUM_TASKS": "1"},
    ],
)
def test_what_is_no_step_of_several_processes_is_left_alone(change):
    environment = STEP | change
    assert not adopt(environment)
    assert environment == STEP | change


def test_contradictions_are_named():
    with pytest.raises(ValueError, match="started 6 processes and its list of processes per node gives 5"):
        adopt(STEP | {"SLURM_STEP_TASKS_PER_NODE": "2(x2),1"})
    with pytest.raises(ValueError, match="SLURM_TASKS_PER_NODE='two'"):
        adopt(STEP | {"SLURM_STEP_TASKS_PER_NODE": "two"})
