import csv
import json
import os
import re
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from segframe.metrics import per_image


@pytest.fixture(scope="module")
def made(write_run, evaluated, tmp_path_factory):
    """Two models of three seeds each, one clearly better, and single runs that differ from them in one thing."""
    root = tmp_path_factory.mktemp("made")
    for seed in range(3):
        write_run(root / f"low-{seed}", f"seed={seed}", skill=0.70 + 0.002 * seed)
        write_run(root / f"high-{seed}", "model=unet", f"seed={seed}", "optimizer.lr=0.5", skill=0.80 - 0.001 * seed)
    write_run(root / "same-3", "seed=3", skill=0.705)
    write_run(root / "other-lr", "seed=4", "optimizer.lr=0.3", skill=0.701)
    sources = {
        "classes": evaluated(classes=["ground", "disc", "ring"]),
        "images": evaluated(prefix="test"),
        "fewer": evaluated(num_images=39),
        "labels": evaluated(scale=4),
        "absent": evaluated(absent="zero"),
        "few": evaluated(num_images=4),
        "few too": evaluated(0.9, 7, num_images=4),
        "unlabelled": evaluated(scale=0),
    }
    for name, source in sources.items():
        write_run(root / name, "optimizer.lr=0.2", source=source)
    old = write_run(root / "old", "seed=9")
    for file in (old / "per_image").iterdir():
        file.unlink()
    (old / "checkpoints").mkdir()
    (old / "checkpoints/last.ckpt").touch()
    return root


@pytest.fixture
def compare(segframe, made, tmp_path, monkeypatch):
    monkeypatch.chdir(made)

    def run(*words):
        code, said, told = segframe("compare", *words, f"out={tmp_path}", "resamples=2000")
        report = json.loads((tmp_path / "comparison.json").read_text()) if code == 0 else None
        return code, said if code == 0 else told, report

    return run


def test_groups_of_seeds(compare, tmp_path):
    code, said, report = compare("low-0,low-2,low-1", "high-*")
    assert code == 0, said
    assert "B is better than A: mIoU +0.1" in said
    assert "have the same seeds" in said
    assert re.search(r"model +tiny +unet", said)
    found = report["differences"][0]
    assert 0 < found["low"] < found["difference"] < found["high"]
    assert found["paired_seeds"]
    assert report["groups"][0]["seeds"] == [0, 1, 2]
    assert report["groups"][0]["standard_deviation"] > 0
    assert report["differs"] == {"model": ["tiny", "unet"], "optimizer.lr": ["0.001", "0.5"]}
    with (tmp_path / "classes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["ground", "disc", "square"]
    assert (
        float(rows[0]["low B"])
        < float(rows[0]["B minus A"])
        == pytest.approx(float(rows[0]["iou B"]) - float(rows[0]["iou A"]))
    )
    for name in ("curves.png", "differences.png"):
        assert min(cv2.imread(str(tmp_path / name)).shape[:2]) > 300


def test_the_order_decides_the_sign(compare):
    _, said, report = compare("high-0", "low-0")
    assert "B is worse than A: mIoU -0.1" in said
    assert "they compare these runs, not the methods" in said
    assert report["differences"][0]["high"] < 0


def test_nothing_is_said_where_the_interval_holds_zero(compare):
    for words in (("low-0", "other-lr"), ("low-0,low-1", "other-lr"), ("low-0,low-1", "low-2,same-3")):
        code, said, report = compare(*words)
        assert code == 0, said
        assert report["differences"][0]["low"] <= 0 <= report["differences"][0]["high"]
        assert "no difference shown between B and A" in said
        assert "better" not in said
        assert "worse" not in said
    assert "two seeds are hardly enough to judge by, as the interval has to reach 12.7 standard" in said
    _, said, _ = compare("low-0,low-1", "low-2,same-3", "other-lr")
    assert "has to reach 25.5 standard errors to either side; with three it is 6.2." in said
    assert "C is one run, taken to vary with the seed as runs of the groups against it do." in said
    _, said, _ = compare("low-0", "other-lr", "low-1,low-2")
    assert "A and B: one run and one run are compared over draws of images alone" in said


def test_more_than_two_share_the_chance_of_an_error(compare):
    _, said, report = compare("low-0", "other-lr", "high-0")
    _, _, alone = compare("low-0", "other-lr")
    assert report["confidence"] == 0.975
    assert "(Bonferroni)" in said
    assert report["differences"][0]["low"] < alone["differences"][0]["low"]


def test_a_narrow_terminal_shows_every_number(compare, monkeypatch):
    monkeypatch.setattr("segframe.verbs.compare._PIPE_WIDTH", 60)
    _, said, report = compare("low-0", "low-1", "low-2", "high-0", "high-1")
    assert "…" not in said
    assert [line.split() for line in said.splitlines() if line.startswith("class")] == [
        ["class", "A", "B", "C", "B-A", "C-A"],
        ["class", "A", "D", "E", "D-A", "E-A"],
    ]
    assert len(report["differences"]) == 4


def test_runs_of_a_folder_are_chosen_by_conditions(compare):
    code, said, report = compare(".:model=tiny:optimizer.lr=0.001:seed<3", ".:model=unet", "metric=dice")
    assert code == 0, said
    assert [len(group["runs"]) for group in report["groups"]] == [3, 3]
    assert report["metric"] == "dice"


def test_constructors_with_the_same_keys_are_told_apart(compare, made, write_run):
    for seed, name in enumerate(("adamw", "adam"), start=20):
        words = (f"optimizer={name}", f"optimizer._target_=segframe.optim.{name}", f"seed={seed}")
        write_run(made / f"optimizers/{name}", *words)
    code, said, report = compare("optimizers:optimizer=adam", "optimizers:optimizer=adamw")
    assert code == 0, said
    assert report["differs"] == {"optimizer._target_": ["segframe.optim.adam", "segframe.optim.adamw"]}
    code, said, _ = compare("optimizers", "low-0")
    assert code == 2
    assert "its 2 runs differ in optimizer._target_" in said


def test_few_images_are_not_judged_by(compare):
    _, said, _ = compare("few", "few too")
    assert "4 images are too few to judge B against A" in said
    assert "Fewer than 8 images hold ground (4)" in said
    assert "better" not in said


def test_folders_with_commas_and_conditions_with_several_values(compare, made, write_run):
    write_run(made / "named/lr=0.1,model=x", "seed=7", skill=0.71)
    code, said, report = compare("named/lr=0.1,model=x", ".:model=tiny:optimizer.lr=0.001:seed=0,1,low-2")
    assert code == 0, said
    assert [len(group["runs"]) for group in report["groups"]] == [1, 3]


def test_runs_that_did_not_finish_are_named(compare, made, write_run):
    write_run(made / "stopped/a", "seed=6", skill=0.5, status="interrupted")
    with (made / "stopped/a/metrics.csv").open("a") as file:
        file.write("12,0.4e")  # a line that a kill has cut
    code, said, report = compare("low-0", "stopped/a")
    assert code == 0, said
    assert "Not finished: stopped/a (B, interrupted)" in report["remarks"][0]
    assert "Not finished: stopped/a (B, interrupted)" in said
    _, said, _ = compare("low-0", "low-1")
    assert "Not finished" not in said


def test_evaluations_with_other_settings_are_named(compare, made, write_run):
    for name, words in (
        ("as trained", {}),
        ("elsewhere", {"strategy": {"_target_": "another"}, "data": {"num_workers": 7}}),
        ("mirrored", {"task": {"inference": {"flip": "?"}}}),
        ("older", None),
    ):
        folder = write_run(made / "evaluated" / name, f"seed={len(name)}")
        for file in ("final", "best"):
            per_image.path_of(folder, file).rename(
                per_image.path_of(folder, f"evaluation-{file.replace('final', 'last')}")
            )
        content = {"config_hash": "another"} if words is None else {"config_hash": "another", "config": words}
        (folder / "evaluation-last.json").write_text(json.dumps(content))
    code, said, report = compare("evaluated/as trained", "evaluated/mirrored", "evaluated/older", "evaluated/elsewhere")
    assert code == 0, said
    assert (
        "trained with: evaluated/mirrored (task.inference.flip), evaluated/older (config). The" in report["remarks"][0]
    )


REFUSED = {
    "different classes": (["low-0", "classes"], "different classes: only the first has square and only the second has"),
    "different images": (["low-0", "images"], "on different images, 40 and 40: only the first has val/000"),
    "nothing counted": (["unlabelled", "low-0"], "unlabelled: no pixel of its 40 validation images counts"),
    "fewer images": (["low-0", "fewer"], "different images, 40 and 39: only the first has val/039"),
    "different labels": (["low-0", "labels"], "against different labels: those of val/000"),
    "different means": (["low-0", "absent"], "has task.absent=drop and absent zero"),
    "no counts": (["low-0", "old"], "evaluate run=old checkpoint=last"),
    "no such evaluation": (["low-0", "low-1", "checkpoint=mine"], "it has best, final, and checkpoint=best takes"),
    "twice": (["low-0", "./low-0"], "low-0 is named in A and B"),
    "more than the seed": (["low-*,other-lr", "high-0"], "in optimizer.lr; the runs of a group may differ in their"),
    "no folder": (["low-0", "hihg-0"], "hihg-0: there is no such folder; did you mean"),
    "a word longer than names": (["low-0", "x" * 300], "xxx: there is no such folder; segframe runs lists"),
    "no match": (["low-0", "nothing-*"], "nothing-*: no run folder matches"),
    "no such value": (["low-0", ".:model=fpn"], "there are model: tiny, unet"),
    "one alone": (["low-0"], "needs at least two runs or groups of runs, got low-0 alone"),
    "metric": (["low-0", "low-1", "metric=mio"], "did you mean `miou`?"),
    "a number too large": (["low-0", "low-1", f"seed={9**99}"], "allowed: integers from 0 to 9223372036854775807"),
    "key": (["low-0", "low-1", "resample=10"], "did you mean `resamples`?"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_compared_is_refused(compare, name):
    words, told = REFUSED[name]
    code, said, _ = compare(*words)
    assert code == 2
    assert told in said


def test_no_folder_is_not_the_one_that_one_stands_in(segframe, made):
    code, _, told = segframe("compare", str(made / "low-0"), str(made / "low-1"), "out=")
    assert code == 2
    assert "give one, such as out=comparison" in told


def test_one_seed_twice_is_one_draw(compare, made, write_run):
    write_run(made / "again/low-0", "seed=0", skill=0.71)
    code, said, _ = compare("low-0,again/low-0", "high-0")
    assert code == 2
    assert "are of one configuration and seed 0, so they are one draw" in said


def test_damaged_counts_are_named(compare, made, write_run):
    folder = write_run(made / "damaged/a", "seed=5")
    per_image.path_of(folder, "final").write_bytes(b"PK")
    code, said, _ = compare("low-0", "damaged/a")
    assert code == 2
    assert "final.npz can't be read" in said


def test_means_of_different_classes_are_named(compare, made, write_run, evaluated):
    """A class of no image that one run predicts halves its mean."""
    sources = [evaluated(classes=["ground"], num_images=12) for _ in range(2)]
    for number, source in enumerate(sources):
        source.classes = ["ground", "ghost"]
        matrix = np.array([[99 - number, number], [0, 0]])
        source.per_image = [per_image.image_counts(i, f"val/{i}", 0.5, matrix) for i in range(12)]
        write_run(made / f"ghosts/{number}", f"seed={number}", source=source)
    code, said, report = compare("ghosts/0", "ghosts/1")
    assert code == 0, said
    assert any(remark.startswith("No image holds ghost: where a run predicts it") for remark in report["remarks"])
    _, _, report = compare("ghosts/0", "ghosts/1", "metric=pixel_accuracy")
    assert not any("ghost: where" in remark for remark in report["remarks"])


def test_counts_that_can_not_be_looked_at_are_named(compare, made, write_run):
    folder = write_run(made / "around/a", "seed=5") / "per_image"
    shutil.rmtree(folder)
    folder.symlink_to("x" * 300)  # nobody can follow it, an administrator neither
    code, said, _ = compare("low-0", "around/a")
    assert code == 2
    assert "per_image can't be looked through" in said


def test_it_needs_no_torch(made, tmp_path):
    words = ["compare", str(made / "low-0"), str(made / "high-0"), f"out={tmp_path}"]
    code = (
        f"from segframe.cli import main; code = main({words!r}); import sys; sys.exit(code or 'torch' in sys.modules)"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
