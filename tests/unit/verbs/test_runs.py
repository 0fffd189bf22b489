import csv
import io
import os
import re
import shutil
import subprocess
import sys

import pytest
from rich.console import Console

from segframe.cli import main
from segframe.runs.listing import lines_of, show
from segframe.runs.record import Record
from segframe.sweep.trial import Trial


@pytest.fixture(scope="module")
def several(write_run, tmp_path_factory):
    root = tmp_path_factory.mktemp("several")
    write_run(root / "sweeps/s/trials/0000", "optimizer.lr=1", skill=0.4)
    write_run(root / "sweeps/s/trials/0001", "optimizer.lr=2", skill=0.65)
    for number in (0, 1):
        Trial(number, {}, ["model=tiny"], root / f"sweeps/s/trials/{number:04d}", state="finished").write()
    (root / "sweeps/s/sweep.json").write_text('{"num_trials": 3}')
    write_run(root / "day/one", "seed=1", skill=0.8)
    write_run(root / "day/two", "optimizer.lr=0.5", skill=0.6)
    write_run(root / "day/three", "model=segnet_basic", "seed=2", skill=0.9, status="interrupted")
    return root


def folders(said):
    return re.findall(
        r"(?:day|sweeps)/\S+", "\n".join(line for line in said.splitlines() if not line.startswith("sweep "))
    )


def test_newest_first_and_sweeps_in_one_line(segframe, several):
    code, said, told = segframe("runs", several)
    assert code == 0, told
    assert folders(said) == ["day/three", "day/two", "day/one", "sweeps/s"]
    assert "sweep 2/3" in said
    assert f"2 finished of 3; best mIoU 0.6500 in trial 1; its trials: segframe runs {several}/sweeps/s" in said
    _, said, _ = segframe("runs", several / "sweeps/s")
    assert folders(said) == ["sweeps/s/trials/0001", "sweeps/s/trials/0000"]
    assert "optimizer.lr" in said.splitlines()[0]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sort=-miou"], ["day/three", "day/one", "sweeps/s", "day/two"]),
        (["model=tiny", "sort=miou"], ["day/two", "sweeps/s", "day/one"]),
        (["miou>0.6", "sort=miou"], ["sweeps/s", "day/one", "day/three"]),
        (["state!=finished"], ["day/three"]),
        (["seed=1,2", "sort=seed"], ["day/one", "day/three"]),
        (["optimizer.lr=0.5"], ["day/two"]),
        (["optimizer.decay_norm_and_bias=True", "optimizer.lr=0.5"], ["day/two"]),
        (["model=seg*"], ["day/three"]),
        (["loss.class_weights=null", "seed>=2"], ["day/three"]),
    ],
)
def test_conditions_and_orders(segframe, several, words, expected):
    code, said, told = segframe("runs", several, *words)
    assert code == 0, told
    assert folders(said) == expected


def test_numbers_are_in_the_order_of_numbers_beside_a_sweep_with_several(segframe, several, write_run):
    """A sweep's seeds are told as "2 values"."""
    for seed in (10, 9):
        write_run(several / f"sorted/{seed}", f"seed={seed}")
        trial = write_run(several / f"sorted/sw/trials/{seed:04d}", f"seed={seed}")
        Trial(seed, {}, ["model=tiny"], trial, state="finished").write()
    (several / "sorted/sw/sweep.json").write_text("{}")
    for sort, expected in (("seed", ["9", "10", "2"]), ("-seed", ["10", "9", "2"])):
        _, said, _ = segframe("runs", several / "sorted", "columns=seed,updated", f"sort={sort}")
        assert [line.split()[0] for line in said.splitlines()[1:4]] == expected
        assert said.splitlines()[3].split()[1:] != ["values", "2", "values"]
    shutil.rmtree(several / "sorted")


def test_a_csv_holds_every_run(segframe, several, tmp_path):
    out = tmp_path / "new/table.csv"
    code, said, _ = segframe("runs", several, "columns=folder,optimizer.lr,age", f"out={out}")
    assert code == 0
    assert said.splitlines()[0].split() == ["folder", "optimizer.lr", "age"]
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    assert {row["optimizer.lr"] for row in rows if row["sweep"]} == {"1.0", "2.0"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sort=-mio"], "mio: there is no such column or key; did you mean `miou`?"),
        (["columns=folder,modl"], "modl: there is no such column or key; did you mean `model`?"),
        (["optimizer.rl=1"], "did you mean `optimizer.lr`?"),
        (["model=nothing"], "none of 5 runs has model=nothing; there are model: segnet_basic, tiny"),
        (["miou>high"], "`high` is no number"),
        (["out=table.xlsx"], "give out=FILE.csv"),
        (["-x"], "takes no such flag"),
        (["elsewhere"], "there is no folder"),
        (["x" * 300], "looks through one folder"),
        ([f"seed={'7,' * 200}"], "none of 5 runs has seed=7,"),
    ],
)
def test_wrong_words_are_told(segframe, several, words, told):
    code, _, said = segframe("runs", *([several] if words != ["elsewhere"] else []), *words)
    assert code == 2
    assert told in said


def test_a_sweep_is_as_old_as_its_first_trial(tmp_path):
    first, waiting = (Record(tmp_path / name, sweep=tmp_path, trial=i) for i, name in enumerate("ab"))
    first.started = 100.0
    (line,) = lines_of([waiting, first], folds=True, now=160.0)
    assert (line.values["started"], line.values["age"]) == (100.0, 60.0)


def test_a_long_error_leaves_the_other_columns_whole(tmp_path):
    out = io.StringIO()
    broken = Record(tmp_path / "a-run", state="broken", started=0.0, updated=0.0, error="that can't be read " * 20)
    console = Console(file=out, width=100, force_terminal=True, color_system=None)
    show(console, lines_of([broken], folds=False), ["folder", "state", "started", "error"], tmp_path)
    assert re.search(r"a-run +broken +1970-01-01 \d\d:\d\d:00 that can't be read", out.getvalue())
    assert out.getvalue().split().count("that") == 20


def test_names_are_printed_whatever_the_terminal_can_write(write_run, tmp_path, monkeypatch):
    write_run(tmp_path / "caf\xe9")
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["runs", str(tmp_path)]) == 0
    out.flush()
    assert b"caf\\xe9" in out.buffer.getvalue()


def test_names_that_are_no_text_are_written(segframe, write_run, tmp_path):
    write_run(tmp_path / os.fsdecode(b"caf\xe9"))
    code, _, told = segframe("runs", tmp_path, f"out={tmp_path / 'a.csv'}")
    assert code == 0, told
    assert "caf\\udce9" in (tmp_path / "a.csv").read_text(encoding="utf-8")


def test_one_run_has_the_columns_of_a_list(segframe, several):
    _, said, _ = segframe("runs", several / "day/one", "columns=")
    assert said.split()[:8] == ["folder", "state", "model", "dataset", "strategy", "miou", "images_per_s", "age"]
    _, said, _ = segframe("runs", several / "day/one", "columns=folder,miou,")
    assert said.split()[:2] == ["folder", "miou"]


def test_an_empty_folder_says_where_it_looked(segframe, tmp_path):
    code, _, told = segframe("runs", tmp_path)
    assert code == 2
    assert f"there is no run folder at or below {tmp_path}" in told


def test_it_needs_no_torch(several):
    code = (
        f"from segframe.cli import main; main(['runs', {str(several)!r}]); import sys; sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert str(several / "day/one") in done.stdout  # whole paths in a pipe
