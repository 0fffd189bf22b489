"""What a trial is given of the environment that its driver runs in."""

from segframe.sweep.launch import processes


def test_a_trial_belongs_to_no_other_run(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGFRAME_RUN_DIR", "elsewhere")  # of a training that starts a sweep
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setenv("WANDB_MODE", "offline")
    given = processes.environment(tmp_path, 2, ["1", "3"])
    assert not {"SEGFRAME_RUN_DIR", "LOCAL_RANK", "SLURM_JOB_ID"} & given.keys()
    assert (given["OMP_NUM_THREADS"], given["CUDA_VISIBLE_DEVICES"], given["WANDB_MODE"]) == ("2", "1,3", "offline")
    assert given[processes.MARK_VARIABLE] == str(tmp_path.resolve())
