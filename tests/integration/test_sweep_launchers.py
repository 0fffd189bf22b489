"""The same grid on this machine, by SLURM and by Ray: drivers are killed, and the values are the same."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from segframe.sweep.launch import processes
from segframe.sweep.trial import read_all

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="leftovers are found by Linux's /proc"),
    pytest.mark.xdist_group("launchers"),  # what trials alone come to is found out once
]

GRID = ("optimizer.lr=0.05,0.2", "trainer.max_epochs=20", "callbacks.checkpoints.every_n_steps=1")
SWEEP = ("sweep.parallel=2", "sweep.metric=val/loss", "sweep.direction=minimize")


@pytest.fixture
def killed_and_gone_on_with(small, tmp_path):
    """Kills the driver of a sweep as soon as all trials train, and gives its command again; returns the trials."""

    def run(*words, inside=()):
        folder = tmp_path / "sweep"
        command = [*inside, sys.executable, "-m", "segframe", "sweep", *small, *GRID, *SWEEP, *words]
        command.append(f"sweep.dir={folder}")
        command = [word for word in command if word != "trainer.max_epochs=2"]
        variables = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        folders = [folder / "trials" / f"{number:04d}" for number in range(2)]
        with (tmp_path / "first.log").open("w") as log:
            driver = subprocess.Popen(command, stdout=log, stderr=log, env=variables)
            try:
                wait_for(lambda: all((f / "checkpoints" / "last.ckpt").exists() for f in folders), driver)
            finally:
                driver.kill()
                driver.wait()
        again = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=300, check=False)
        assert again.returncode == 0, again.stderr
        assert not any(processes.marked(f) for f in folders)
        return read_all(folder), again.stderr

    return run


def wait_for(condition, process=None, timeout_s=240):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process is None or process.poll() is None, "the driver has ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def alone(small, tmp_path_factory):
    """What each of the trials comes to when it is trained without a sweep, one after the other in one process."""
    base = tmp_path_factory.mktemp("alone")
    words = [word for word in (*small, *GRID[1:]) if word != "trainer.max_epochs=2"]
    runs = [["train", *words, f"optimizer.lr={rate}", f"run.dir={base / rate}"] for rate in ("0.05", "0.2")]
    code = "import json, sys; from segframe.cli import main; sys.exit(max(map(main, json.loads(sys.argv[1]))))"
    command = [sys.executable, "-c", code, json.dumps(runs)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)
    files = [base / rate / "results.json" for rate in ("0.05", "0.2")]
    values = [json.loads(file.read_text())["metrics"]["val/loss"]["best"] for file in files]
    assert values[0] != values[1]
    return values


def test_on_this_machine(killed_and_gone_on_with, alone):
    trials, _ = killed_and_gone_on_with()
    assert [trial.value for trial in trials] == alone  # bit for bit, though they went on from checkpoints
    assert max(trial.attempts for trial in trials) == 2  # one may have finished before it was told to end
    assert [trial.job["cores"] for trial in trials] in ([[0], [1]], [[1], [0]]) or len(os.sched_getaffinity(0)) != 2


def test_as_jobs_of_slurm(killed_and_gone_on_with, alone):
    pytest.importorskip("submitit")
    trials, said = killed_and_gone_on_with("sweep.launcher=slurm", "sweep.slurm.cluster=local")
    assert [trial.value for trial in trials] == alone
    assert [trial.attempts for trial in trials] == [1, 1], (
        said
    )  # a job does not need its driver, and is not started twice


@pytest.fixture
def cluster(tmp_path):
    """A Ray cluster in a network of its own, which holds the loopback device alone; yields how to get inside."""
    pytest.importorskip("ray")
    if os.geteuid() or not (shutil.which("unshare") and shutil.which("nsenter") and shutil.which("ip")):
        pytest.skip("Ray listens on all devices; a network of its own needs root, unshare, nsenter and ip")
    ray = (
        f"{os.path.dirname(sys.executable)}/ray start --head --block --num-cpus=2 --port=6379 --include-dashboard=false"
    )
    ray += f" --disable-usage-stats --object-store-memory=80000000 --temp-dir=/tmp/segframe-ray-{os.getpid()}"
    with (tmp_path / "ray.log").open("w") as log:
        head = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", f"ip link set lo up && exec {ray}"],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(lambda: "Ray runtime started" in (tmp_path / "ray.log").read_text(), head)
        yield ["nsenter", f"--net=/proc/{head.pid}/ns/net"]
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        try:
            head.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()
        shutil.rmtree(f"/tmp/segframe-ray-{os.getpid()}", ignore_errors=True)


def test_as_tasks_of_ray(killed_and_gone_on_with, alone, cluster):
    words = ("sweep.launcher=ray", "sweep.ray.address=127.0.0.1:6379")
    trials, said = killed_and_gone_on_with(*words, inside=cluster)
    assert [trial.value for trial in trials] == alone
    assert max(trial.attempts for trial in trials) == 2, said
    assert "(raylet)" not in said
