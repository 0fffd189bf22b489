import pytest

from segframe.config.compose import compose, resolved
from segframe.config.options import ConfigError
from segframe.sweep import sources
from segframe.sweep.check import Needs, check
from segframe.sweep.launch.local import LocalLauncher
from segframe.sweep.launch.pool import Pool
from segframe.sweep.request import read


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["dataset=camvid", "dataset.root=/nowhere/at/all", "seed=0,1"],
            "^CamVid: the folder /nowhere/at/all/train does",
        ),
        (["init_from=/nowhere/at/all", "seed=0,1"], "^init_from=/nowhere/at/all: there is no such checkpoint"),
        (["model=tiny,segent"], "^model=segent: there is no such option; did you mean `segnet`"),
    ],
)
def test_what_no_trial_could_read_is_told_before_the_first_starts(words, message):
    request = read(["trainer=cpu", *words])
    with pytest.raises(ConfigError, match=message):
        check(request, Needs(LocalLauncher(1, Pool([0], [], 1))), set())


def test_a_logger_without_its_package_is_told_before_the_first_starts(monkeypatch):
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    for name in ("wandb", "tensorboard"):
        with pytest.raises(ConfigError, match=rf"logger={name} needs .*pip install 'segframe\[{name}\]'"):
            sources.check_sources(resolved(compose([f"logger={name}"])))
    sources.check_sources(resolved(compose(["logger=csv"])))
