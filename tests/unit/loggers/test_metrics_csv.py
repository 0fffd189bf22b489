import csv
import errno
import resource
from pathlib import Path

import pytest
import torch

from segframe.loggers.metrics_csv import MetricsCsv


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run(log: MetricsCsv, start: int, stop: int) -> None:
    """Logs what a run of these steps would."""
    for step in range(start, stop):
        log.log_metrics({"epoch": step // 5, "train/loss": 1 / (step + 1), "lr": 0.1 / 3}, step=step)
        if step % 5 == 4:
            log.log_metrics({"val/miou": step / 7, "val/iou/door, double": 0.5, "epoch": step // 5}, step=step)


def test_row_is_in_the_file_when_the_call_returns(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.csv"
    log = MetricsCsv(path)
    log.log_metrics({"train/loss": torch.tensor(0.1), "epoch": 0.0, "count": 3}, step=1)
    text = path.read_text()
    assert text == "step,epoch,train/loss,count\n1,0,0.10000000149011612,3\n"
    log.log_metrics({"epoch": 0, "train/loss": float("nan")}, step=2)
    assert path.read_text() == text + "2,0,nan,\n"
    assert (log.save_dir, log.name, log.version) == (str(path.parent), "metrics.csv", "")


def test_same_step_joins_the_last_row(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log = MetricsCsv(path)
    log.log_metrics({"epoch": 0, "a": 0.123456789}, step=1)
    log.log_metrics({"epoch": 0, "a": 2.0}, step=2)
    log.log_metrics({"b": 3.5}, step=2)  # a new column
    log.log_metrics({"a": 4.25, "b": 10.0}, step=2)  # longer
    log.log_metrics({"a": 1.0, "b": 2.0}, step=2)  # shorter
    log.log_metrics({"b": 5.0})  # no step: that of the last row
    log.log_metrics({"a": 6.0}, step=3)
    assert path.read_text() == "step,epoch,a,b\n1,0,0.123456789,\n2,0,1.0,5.0\n3,,6.0,\n"


def test_first_row_without_metrics(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log = MetricsCsv(path)
    log.log_metrics({"epoch": 0}, step=1)
    log.log_metrics({"epoch": 1}, step=1)
    assert path.read_text() == "step,epoch\n1,1\n"


def test_numbers_read_back_exactly(tmp_path: Path) -> None:
    values = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).tolist()
    log = MetricsCsv(tmp_path / "metrics.csv")
    for step, value in enumerate(values):
        log.log_metrics({"loss": value}, step=step)
    assert [float(row["loss"]) for row in rows(log.path)] == values


@pytest.mark.parametrize("cut", [0, 1, 3, 9])
@pytest.mark.parametrize("killed_after", [7, 9, 12, 20])
def test_resumed_file_equals_the_undisturbed_one(tmp_path: Path, cut: int, killed_after: int) -> None:
    whole, resumed = tmp_path / "whole.csv", tmp_path / "resumed.csv"
    run(MetricsCsv(whole), 1, 20)
    run(MetricsCsv(resumed), 1, killed_after)
    data = resumed.read_bytes()
    resumed.write_bytes(data[: len(data) - cut])  # a torn last line
    run(MetricsCsv(resumed, resume_step=5), 6, 20)
    assert rows(whole)[8]["val/iou/door, double"] == "0.5"
    assert resumed.read_bytes() == whole.read_bytes()


def test_without_resume_a_new_file_is_begun(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    run(MetricsCsv(path), 1, 9)
    run(MetricsCsv(path), 1, 3)
    assert [row["step"] for row in rows(path)] == ["1", "2"]


def test_truncate(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    MetricsCsv.truncate(path, 3)
    assert not path.exists()
    run(MetricsCsv(path), 1, 9)
    MetricsCsv.truncate(path, 3)
    assert [row["step"] for row in rows(path)] == ["1", "2", "3"]
    path.write_bytes(b"step,epoch,tra")
    MetricsCsv.truncate(path, 3)
    assert path.read_bytes() == b""


def test_two_writers_of_one_file_do_not_tear_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = MetricsCsv(path)
    first.log_metrics({"a": 1.0}, step=1)
    MetricsCsv(path, resume_step=1).log_metrics({"b": 2.0}, step=1)
    first.log_metrics({"a": 3.0}, step=2)
    assert path.read_text() == "step,epoch,a,b\n1,,1.0,2.0\n2,,3.0,\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,age\nx,3\n", "does not begin with the columns step,epoch"),
        ("step,epoch\n1\n2,0\n", "line 2: '1'"),
    ],
)
def test_foreign_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        MetricsCsv(path, resume_step=3).log_metrics({"a": 1.0}, step=4)
    assert path.read_text() == text


@pytest.mark.parametrize("steps", [(2,), (1,)], ids=["new row", "joined row"])
def test_full_disk_names_the_file_and_tears_no_row(tmp_path: Path, steps: tuple[int]) -> None:
    path = tmp_path / "metrics.csv"
    log = MetricsCsv(path)
    log.log_metrics({"a": 1.0, "b": 1.0}, step=1)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 3, hard))
    try:
        with pytest.raises(OSError, match=r"were not written; make room.*metrics\.csv") as caught:
            log.log_metrics({"a": 1 / 3, "b": 1 / 7}, step=steps[0])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert path.read_bytes() == before
    log.log_metrics({"a": 2.0}, step=2)
    assert path.read_bytes() == before + b"2,,2.0,\n"
