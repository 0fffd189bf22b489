import importlib.util
import json

import pytest

from segframe.config.options import ConfigError
from segframe.sweep import folder
from segframe.sweep.request import read, without_password
from segframe.sweep.trial import read_all


def test_a_sweep_is_found_again_by_what_is_searched_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["sweep=optuna_lr", "model=tiny", "data.num_workers=0"]
    first = read(words)
    assert str(first.folder).startswith("outputs/sweeps/optuna_lr-")
    for others in (
        ["sweep.trials=99", "sweep.parallel=2", "sweep.retries=5", "sweep.launcher=slurm", "sweep.slurm.partition=x"],
        ["data.num_workers=0", "model=tiny"],
    ):
        assert read([*words, *others]).folder == first.folder
    for other in (
        "seed=3",
        "sweep.search.seed=1",
        "sweep.search.pruner=none",
        "model=tiny,segnet",
        "sweep.value=final",
    ):
        assert read([*words, other]).folder != first.folder


def test_words_count_more_than_the_file(tmp_path):
    (tmp_path / "sweep").mkdir()
    text = "# mine\ntrials: 3\nwords: [model=tiny, seed=1]\nspace:\n  optimizer.lr: [1, 2]\n  seed: [5, 6]\n"
    (tmp_path / "sweep" / "mine.yaml").write_text(text)
    request = read([f"--config-dir={tmp_path}", "sweep=mine", "seed=7", "optimizer.eps=1e-8,1e-7", "sweep.parallel=2"])
    assert [axis.key for axis in request.axes] == ["optimizer.lr", "optimizer.eps"]
    assert request.words == ("model=tiny", "seed=7", f"--config-dir={tmp_path}")
    assert (request.num_trials, request.most_trials, request.settings.parallel) == (3, 4, 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed=1"], "nothing to try.*one training is `segframe train`"),
        (["seed=1,2", "resume=x"], "goes on by the same command"),
        (["seed=1,2", "run.dir=x"], r"below sweep\.dir"),
        (["seed=1,2", "sweep.words=['resume=x']"], "resume=x: a sweep goes on by the same command"),
        (["seed=1,2", "sweep.words=['sweep.parallel=2']"], r"sweep\.parallel=2: .*set sweep\.parallel beside"),
        (["+sweep.space={run.dir:[a,b]}"], r"below sweep\.dir"),
        (["seed=1,2", r"sweep.dir='\${x}'"], "can't name a folder"),
        (["seed=1,2", "sweep.dir=''"], r"sweep\.dir is empty"),
        (["seed=1,2", "sweep.metric=mIoU"], "did you mean `val/miou`"),
        (["seed=1,2", "sweep.metric=val/Dice"], "did you mean `val/dice`"),
        (["seed=1,2", "sweep.metric=val/loss"], r"give sweep\.direction=minimize"),
        (["sweep=wandb"], "wandb sweep conf/sweep/wandb.yaml"),
        (["seed=1,2", "sweep.paralel=2"], r"did you mean `sweep\.parallel`"),
        (["seed=1,2", "sweep.parallel=0"], r"sweep\.parallel=0 is not allowed"),
        (["seed=1,2", "sweep.parallel=1,2"], r"`sweep\.parallel=1,2`: each key of the sweep itself takes one value"),
        (["seed=1,2", "sweep=grid,optuna_lr"], "each key of the sweep itself takes one value"),
        (["seed=1,2", "sweep.storage=x"], r"did you mean `sweep\.search\.storage`"),
        (["seed=1,2", "sweep=optuna_tpe", "sweep.trials=null"], r"give sweep\.trials=N"),
        (["optimizer.lr=interval(1,2)"], "sweep=optuna_random"),
        (["seed=1,2", "~sweep.parallel"], "`~sweep.parallel`: no key of the sweep can be left out"),
        (["seed=1,2", "sweep.slurm=null"], r"sweep\.slurm=null: it is a section"),
        (["+sweep.space={seed:[1,2]}", "seed=3"], r"the words give one value for all of sweep\.space \(seed\)"),
        (["+sweep.space={1:[2,3],run.dir:[a,b]}"], r"run\.dir: each trial has a folder"),
        (["seed=1,2", "sweep.metric=''"], r"sweep\.metric is empty"),
        (["seed=1,2", "sweep.metric=val_miou"], "did you mean `val/miou`"),
        (["sweep=optuna_tpe", "optimizer.lr=interval(a,b)"], "interval.*can't be read"),
        (["model=glob(xyz*)"], "no option of model fits; options: deeplabv3, "),
        (["seed=glob(*)"], "seed is no group"),
        (["seed=1,2", "sweep=gird"], "did you mean `grid`"),
    ],
)
def test_words_that_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        read(words)


def test_a_section_that_is_none_in_a_file_is_refused(tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "mine.yaml").write_text("# mine\nsearch: tpe\nspace: {seed: [0, 1]}\n")
    with pytest.raises(ConfigError, match=r'sweep\.search="tpe": it is a section'):
        read([f"--config-dir={tmp_path}", "sweep=mine"])


def test_settings_in_braces_name_no_search():
    request = read(["seed=1,2", "sweep={trials:1}"])
    assert (request.name, request.settings.trials) == ("grid", 1)


def test_a_folder_holds_one_search(tmp_path):
    own = f"sweep.dir={tmp_path}"
    request = read([own, "seed=0,1", "model=tiny", "sweep.search.storage=postgresql://a:secret@b/c"])
    with folder.locked(tmp_path):
        folder.enter(request, folder.describe(request, 2))
    kept = json.loads((tmp_path / "sweep.json").read_text())
    assert (kept["axes"], kept["num_trials"], kept["num_epochs"]) == (["seed"], 2, 2)
    assert "secret" not in json.dumps(kept)
    assert ("optuna" in kept["versions"]) == (importlib.util.find_spec("optuna") is not None)
    folder.check(
        read([own, "seed=0,1", "model=tiny", "sweep.search.storage=postgresql://a:other@b/c", "sweep.trials=1"])
    )
    other = read([own, "seed=0,2", "sweep=optuna_tpe", "optimizer.lr=1,2"])
    folder.check(other)  # nothing was tried yet: the first words were refused later
    (tmp_path / "trials" / "0000").mkdir(parents=True)
    with pytest.raises(ConfigError) as caught:
        folder.check(other)
    for line in ('search.sampler: "tpe" (was "grid")', 'seed: ["0", "2"] (was ["0", "1"])', "without model=tiny"):
        assert line in str(caught.value)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "overrides.json").write_text("[]")
    with pytest.raises(ConfigError, match="folder of a training"):
        folder.check(read([f"sweep.dir={tmp_path}", "seed=0,1"]))


def test_a_folder_that_can_not_be_read_is_named(tmp_path):
    (tmp_path / "sweep.json").mkdir()
    with pytest.raises(ConfigError, match=r"sweep\.json can't be read \(Is a directory\)"):
        folder.check(read([f"sweep.dir={tmp_path}", "seed=0,1"]))


def test_a_trial_whose_number_is_text_is_named(tmp_path):
    (tmp_path / "trials" / "0000").mkdir(parents=True)
    (tmp_path / "trials" / "0000" / "trial.json").write_text('{"number": "0", "state": "finished"}')
    with pytest.raises(ValueError, match=r"trial\.json is not what a sweep writes \(number '0'\); delete it"):
        read_all(tmp_path)


def test_passwords_are_left_out():
    assert without_password("mysql+pymysql://me:p:a@ss@host:1/x") == "mysql+pymysql://me:***@host:1/x"
    assert (
        without_password("postgresql://host/x?user=me&password=it&a=b")
        == "postgresql://host/x?user=me&password=***&a=b"
    )
    assert without_password("postgresql:///studies") == "postgresql:///studies"
