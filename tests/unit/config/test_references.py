"""Values that are taken from other keys."""

import pytest
from omegaconf import OmegaConf

from segframe.config.compose import ConfigError, compose
from segframe.config.references import without_echoes


@pytest.fixture
def own(tmp_path):
    def write(text):
        (tmp_path / "dataset").mkdir(exist_ok=True)
        (tmp_path / "dataset" / "mine.yaml").write_text(f"# mine\ndefaults: [folder, _self_]\nroot: x\n{text}\n")
        return compose([f"--config-dir={tmp_path}", "dataset=mine"])

    return write


def test_count_follows_a_list(own):
    config = own("classes: [a, b, c]")
    assert config.dataset.num_classes == config.model.num_classes == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: sky", "dataset.classes=sky is not allowed; allowed: a list of texts with 1 or more entries"),
        ("classes: []", "dataset.classes=[] is not allowed"),
        ("classes: {a: 1}", 'dataset.classes={"a": 1} is not allowed'),
        ("classes: [a]\npalette: [[0, 0, 256]]", "dataset.palette=[[0, 0, 256]] is not allowed"),
        ("classes: [a]\nlabel_map: {0: [1]}", 'dataset.label_map={"0": [1]} is not allowed'),
        ("", "dataset.classes is needed (names of the classes in the order of their ids"),
        ("classes: [a]\nnum_classes: ${count:${seed}}", "dataset.num_classes: ${count:${seed}} can't be resolved: "),
    ],
)
def test_one_mistake_is_one_message_about_the_key_where_it_stands(own, text, message):
    with pytest.raises(ConfigError) as error:
        own(text)
    assert str(error.value).startswith(message)
    assert "problems:" not in str(error.value)


def test_a_mapping_may_be_given_where_there_is_none():
    words = ["dataset=folder", "dataset.root=x", "dataset.classes=[a,'b c']"]
    config = compose([*words, "dataset.label_map={0:a,7-10:'b c',11:ignore}"])
    assert dict(config.dataset.train.label_map) == {0: "a", "7-10": "b c", 11: "ignore"}
    with pytest.raises(ConfigError, match=r"dataset\.label_map=\[0\] is not allowed; allowed: a mapping of"):
        compose([*words, "dataset.label_map=[0]"])


def test_echoes():
    config = OmegaConf.create({"a": 1, "b": "${a}", "c": "${b}", "d": "${x:${a}}", "e": "${e}", "f": "${none}"})
    assert without_echoes(["b=1 is wrong", "c=1 is wrong"], config) == ["a=1 is wrong"]
    assert without_echoes(["a=1 is bad", "b=1 is wrong", "d: can't"], config) == ["a=1 is bad"]
    assert without_echoes(["d: can't", "e: can't", "f: can't"], config) == ["d: can't", "e: can't", "f: can't"]
