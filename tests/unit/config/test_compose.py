"""Every way to get the command line wrong ends in one message that says how to get it right."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from segframe.config.compose import ConfigError, compose, compose_resume, resolved, run_overrides
from segframe.config.options import shipped_dir
from segframe.config.overrides import last_wins, name_of, value_of
from segframe.config.usage import MOST_USED

CONF = shipped_dir()

BAD = [
    (["strategy=dpp"], ["there is no such option", "did you mean `ddp`", "single"]),
    (["strateg=ddp"], ["no such key", "did you mean `strategy`"]),
    (["optimizer.learning_rate=1"], ["did you mean `optimizer.lr`", "keys of optimizer: lr"]),
    (["optimzer.lr=1"], ["did you mean `optimizer.lr`"]),
    (["trainer.max_epoch=3"], ["did you mean `trainer.max_epochs`"]),
    (["lr=1"], ["did you mean `optimizer.lr`"]),
    (["batch_size=3"], ["did you mean `data.batch_size`"]),
    (["epochs=3"], ["did you mean `trainer.max_epochs`"]),
    (["optimizer.lr.x=1"], ["optimizer.lr is a single value"]),
    (["task=5"], ["task is a section", "task.absent"]),
    (["optimizer={lrr:1}"], ["optimizer.lrr", "did you mean `optimizer.lr`"]),
    (["+optimizer.lr=1"], ["is there already", "without +"]),
    (["++optimizer.foo=1"], ["has no argument `foo`", "head_lr_factor"]),
    (["+foo=1"], ["foo: nothing reads such a key"]),
    (["pspnet"], ["no `=`", "did you mean `model=pspnet`"]),
    (["strategy"], ["strategy=OPTION", "ddp"]),
    (["lr"], ["no `=`", "write KEY=VALUE"]),
    (["="], ["nothing stands before"]),
    (["--hepl"], ["did you mean `--help`"]),
    (["--lr=1"], ["settings take no dashes: lr=VALUE"]),
    (["run.dir=/a(b"], ["can't be read", "run.dir='/a(b'"]),
    (["run.dir='a"], ["can't be read"]),
    (["run.dir=it's [1]"], ["can't be read", """'run.dir="it'"'"'s [1]"'"""]),
    (["dataset=folder", "dataset.root=x", "dataset.classes=[a=b]"], ["can't be read; entries with signs stand in"]),
    (["a b=1"], ["`a b` is no key"]),
    (["optimizer.lr=1,2"], ["one run takes one value", "optimizer.lr=[...]", "-m trains with each"]),
    (["hydra.run.dir=x"], ["run.dir=PATH"]),
    (["model=null"], ["one of its options is needed", "pspnet"]),
    (["~logger"], ["can't be left out", "csv"]),
    (["optimizer.lr=-1"], ["optimizer.lr=-1", "a number > 0"]),
    (["optimizer.lr=fast"], ["optimizer.lr=fast", "a number > 0"]),
    (["optimizer.lr=true"], ["optimizer.lr=true", "a number > 0"]),
    (["trainer.max_epochs=2.5"], ["trainer.max_epochs=2.5", "an integer"]),
    (["data.batch_size=1e1"], ["data.batch_size=10.0", "write 10"]),
    (["data.batch_size=0"], ["data.batch_size=0", "an integer >= 1"]),
    (["data.batch_size=null"], ["data.batch_size=null", "an integer >= 1"]),
    (["model.output_stride=7"], ["model.output_stride=7", "8, 16 or 32"]),
    (["task.absent=dorp"], ["drop, zero or one", "did you mean `drop`"]),
    (["task.channels_last=1"], ["task.channels_last=1", "true or false"]),
    (["seed='1'"], ["seed='1'", "without quotes"]),
    (["run.dir=${foo}"], ["run.dir", "${foo}"]),
    (["data.batch_size=${dataset.num_clases}"], ["data.batch_size", "did you mean ${dataset.num_classes}"]),
    (["task._target_=segframe.task.SegmentationTsk"], ["did you mean `SegmentationTask`"]),
    (["task._target_=nowhere.Task"], ["no package `nowhere`"]),
    (["dataset=camvid"], ["dataset.root is needed", "dataset.root="]),
    (["dataset=folder", "dataset.root=x"], ["dataset.classes is needed", "dataset.classes=VALUE"]),
    (["dataset=folder", "dataset.root=x", "dataset.classes=[]"], ["dataset.classes=[] is not", "1 or more entries"]),
    (["dataset=folder", "dataset.root=x", "dataset.classes=a"], ["dataset.classes=a is not", "a list of texts"]),
    (["dataset=folder", "dataset.root=x", "dataset.classes=[1]"], ["dataset.classes=[1] is not", "a list of texts"]),
    (["--config-dir=/nowhere"], ["/nowhere", "no folder"]),
    (["strategy=dpp", "optimizer.lr=-1", "lr=3"], ["3 problems", "`ddp`", "a number > 0", "`optimizer.lr`"]),
]


@pytest.mark.parametrize(("words", "fragments"), BAD, ids=lambda value: " ".join(value)[:40])
def test_bad_words_are_explained(words, fragments):
    with pytest.raises(ConfigError) as caught:
        compose(words)
    message = str(caught.value)
    assert [fragment for fragment in fragments if fragment not in message] == [], message
    assert "Traceback" not in message
    assert "problems:" not in message or message.startswith(f"{len(words)} problems")


def test_a_value_that_cannot_be_read_is_not_called_missing_too():
    with pytest.raises(ConfigError, match=r"^`dataset\.root=/a\[1\]`: the value can't be read.*'/a\[1\]'\"$"):
        compose(["dataset=camvid", "dataset.root=/a[1]"])


@pytest.mark.parametrize("root", ["~/data", "/Größe/数据", "data/lr=0.1", "a;b&c!", "C#", "my data"])
def test_text_without_signs_of_the_grammar_needs_no_quotes(root):
    assert compose(["dataset=camvid", f"dataset.root={root}"]).dataset.train.root == root


FILES = sorted(file.relative_to(CONF).with_suffix("") for file in CONF.rglob("*.yaml"))


FOR_OTHERS = {"sweep/wandb"}  # what another program reads


@pytest.mark.parametrize("name", [f for f in FILES if f.parent != Path() and f.as_posix() not in FOR_OTHERS], ids=str)
def test_every_shipped_option_composes(name):
    group = name.parent.as_posix()
    text = (CONF / f"{name}.yaml").read_text()
    options = [(group, name.name), *re.findall(r"override /(\w+): (\w+)", text)]
    needed = [
        f"{of}.{key}={'[a,b]' if key == 'classes' else '/somewhere'}"
        for of, option in options
        for key in re.findall(r"^(\w+): +\?\?\?", (CONF / of / f"{option}.yaml").read_text(), re.MULTILINE)
    ]
    config = compose([f"{group}={name.name}", *needed], group if (CONF / f"{group}.yaml").exists() else "train")
    assert OmegaConf.is_struct(config)
    resolved(config)


def test_there_are_options_to_test():
    groups = {file.parts[0] for file in FILES if len(file.parts) > 1}
    assert {"dataset", "model", "loss", "optimizer", "scheduler", "strategy", "trainer", "logger"} <= groups


def test_the_last_of_a_key_or_group_counts():
    config = compose(["optimizer.lr=1", "strategy=single", "strategy=ddp", "optimizer.lr=0.25"])
    assert config.optimizer.lr == 0.25
    assert config.strategy._target_.endswith("DDP")


def test_numbers_are_read_leniently_where_nothing_is_lost():
    config = compose(["optimizer.lr=1", "optimizer.weight_decay=1e-3", "optimizer.eps=1E-7"])
    assert config.optimizer.lr == 1
    assert (config.optimizer.weight_decay, config.optimizer.eps) == (1e-3, 1e-7)


def test_the_run_folder_is_named_once(monkeypatch):
    config = compose(["model=tiny"])
    assert config.run.dir.endswith("-tiny-synthetic")
    compose(["model=segnet"])
    assert resolved(config)["run"]["dir"] == config.run.dir
    monkeypatch.setenv("SEGFRAME_RUN_DIR", "/somewhere/else")
    assert compose(["run.dir=here"]).run.dir == "/somewhere/else"


def test_the_key_of_a_value_taken_from_elsewhere_is_named_alone():
    with pytest.raises(ConfigError) as caught:
        compose(["seed=-1"])
    assert str(caught.value).startswith("seed=-1 is not allowed")


@pytest.fixture
def own(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "experiment").mkdir()
    return tmp_path


def test_an_own_folder_adds_and_replaces_options(own, monkeypatch):
    text = (CONF / "model" / "tiny.yaml").read_text()
    (own / "model" / "mine.yaml").write_text(text)
    (own / "model" / "segnet.yaml").write_text(text)
    tiny = compose(["model=tiny"]).model
    assert compose([f"--config-dir={own}", "model=mine"]).model == tiny
    assert compose(["model=segnet"]).model != tiny
    monkeypatch.setenv("SEGFRAME_CONFIG_DIR", str(own))
    assert compose(["model=segnet"]).model == tiny


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("defaults: [{override /model: pspnt}]", ["experiment/mine", "model=pspnt", "did you mean `pspnet`"]),
        ("defaults: [{override /modl: pspnet}]", ["modl"]),
        ("optimizer: {learning_rate: 1}", ["optimizer.learning_rate"]),
        ("optimzer: {lr: 1}", ["optimzer: nothing reads", "did you mean `optimizer`"]),
        ("optimizer: {lr: '1e-3'}", ["optimizer.lr='1e-3'", "without quotes"]),
        ("a: [", ["mine.yaml"]),
    ],
)
def test_errors_inside_an_experiment(own, text, fragments):
    (own / "experiment" / "mine.yaml").write_text(f"# @package _global_\n# mine\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        compose([f"--config-dir={own}", "experiment=mine"])
    message = str(caught.value)
    assert [fragment for fragment in fragments if fragment not in message] == [], message


def test_an_experiment_changes_options_and_keys(own):
    text = "# @package _global_\n# mine\ndefaults:\n  - override /model: tiny\noptimizer:\n  lr: 1e-3\n"
    (own / "experiment" / "mine.yaml").write_text(text)
    for word in ("experiment=mine", "+experiment=mine"):
        config = compose([f"--config-dir={own}", word, "trainer.max_epochs=1"])
        assert (config.model, config.optimizer.lr) == (compose(["model=tiny"]).model, 1e-3)
    assert compose([f"--config-dir={own}", "experiment=mine", "experiment=null"]).model == compose([]).model


def _run(folder, words):
    folder.mkdir(parents=True)
    (folder / "overrides.json").write_text(json.dumps(words))
    return folder


def test_resume_takes_the_words_of_the_run_and_puts_new_ones_over_them(tmp_path):
    run = _run(tmp_path / "it's (1)", ["model=tiny", "optimizer.lr=0.5", "run.dir=elsewhere", "seed=3"])
    config = compose_resume(run, ["optimizer.lr=0.25", "trainer.max_epochs=7", f"resume={run}"])
    assert config.model == compose(["model=tiny"]).model
    assert (config.optimizer.lr, config.seed, config.trainer.max_epochs) == (0.25, 3, 7)
    assert (config.run.dir, config.resume) == (str(run), str(run))
    assert run_overrides(run, ["optimizer.lr=0.25"]) == ["model=tiny", "seed=3", "optimizer.lr=0.25"]
    assert compose_resume(run, [], for_training=False).resume is None


def test_another_strategy_does_not_take_the_grid_of_the_run(tmp_path):
    grid = ["strategy=hybrid", "strategy.data=2", "strategy.spatial=2", "strategy.sync_batchnorm=false"]
    (tmp_path / "overrides.json").write_text(json.dumps([*grid, "trainer.devices=4"]))
    assert run_overrides(tmp_path, ["strategy=ddp"]) == [
        "strategy.sync_batchnorm=false",
        "trainer.devices=4",
        "strategy=ddp",
    ]
    assert compose_resume(tmp_path, ["strategy=ddp"]).strategy.sync_batchnorm is False
    again = compose_resume(tmp_path, ["strategy=hybrid", "strategy.data=1"]).strategy
    assert (again.data, again.spatial) == (1, 2)


def test_resume_names_the_nearest_run(tmp_path):
    run = _run(tmp_path / "2026-01-01" / "10-00-00-tiny", [])
    with pytest.raises(ConfigError, match="10-00-00-tiny"):
        compose_resume(run.with_name("10-00-00-tyni"), [])
    with pytest.raises(ConfigError, match=r"holds no overrides\.json.*10-00-00-tiny"):
        compose_resume(run.parent, [])
    with pytest.raises(ConfigError, match="lies inside a run folder"):
        compose_resume(run / "checkpoints" / "last.ckpt", [])
    (run / "overrides.json").write_text('["model=')
    with pytest.raises(ConfigError, match="no valid JSON"):
        compose_resume(run, [])


def test_words():
    assert [name_of(w) for w in ("a.b=1", "+a=1", "~a", "++a.b=c=d")] == ["a.b", "a", "a", "a.b"]
    assert [value_of(w) for w in ("a=b=c", "a='b c'", "a=")] == ["b=c", "b c", ""]
    assert last_wins(["a=1", "b=1", "a=2", "--config-dir=x", "--config-dir=y"])[0] == "b=1"


def test_the_keys_that_help_explains_exist():
    config = compose([])
    missing = object()
    assert [key for key in MOST_USED if OmegaConf.select(config, key, default=missing) is missing] == []


def test_composing_imports_no_torch():
    code = (
        "import sys; from segframe.config.compose import compose; compose([]); import segframe.cli, segframe.doctor;"
        "sys.exit([m for m in ('torch', 'lightning', 'pytorch_lightning', 'numpy') if m in sys.modules] or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CONF.parent)
    assert done.returncode == 0, done.stderr
