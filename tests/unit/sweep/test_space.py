import pytest

from segframe.config.options import ConfigError
from segframe.sweep.axes import Choices, Range
from segframe.sweep.grid import point, words_of
from segframe.sweep.space import from_file, split

OFFERED = {"model": ["pspnet", "segnet", "tiny"]}


def axis(word):
    axes, others = split([word], OFFERED)
    assert others == []
    return axes[0]


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("model=pspnet,segnet", ["model=pspnet", "model=segnet"]),
        ("model=glob(*net)", ["model=pspnet", "model=segnet"]),
        ("a.b=choice(x,y)", ["a.b=x", "a.b=y"]),
        ("a=1,null,true,'1'", ["a=1", "a=null", "a=True", "a='1'"]),
        ("a='x,y','z'", ["a='x,y'", "a='z'"]),
        ("a=[48,48],[64,64]", ["a=[48,48]", "a=[64,64]"]),
        ("+a={b:1},{b:2}", ["+a={b:1}", "+a={b:2}"]),
        ("a=range(1,4)", ["a=1", "a=2", "a=3"]),
        ("a=range(0.1,0.4,0.1)", ["a=0.1", "a=0.2", "a=0.3"]),
        ("a=range(5,1,-2)", ["a=5", "a=3"]),
        ("a=sort(3,1,2)", ["a=1", "a=2", "a=3"]),
        ("model@other=tiny,segnet", ["model@other=tiny", "model@other=segnet"]),
    ],
)
def test_a_list_is_an_axis(word, words):
    found = axis(word)
    assert [found.word(value) for value in found.all_values()] == words


@pytest.mark.parametrize("word", ["a='x,y'", "a=[1,2]", "a={b:1,c:2}", "~a", "a=", "--config-dir=/a,b", "a=1,"])
def test_what_is_no_list_is_left_to_every_trial(word):
    assert split([word], OFFERED) == ([], [word])


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a=interval(1,10)", Range("a", 1.0, 10.0)),
        ("a=int(interval(1,10))", Range("a", 1, 10, is_integer=True)),
        ("+a=tag(log,interval(1e-4,0.1))", Range("+a", 1e-4, 0.1, log=True)),
        ("a=range(1,9,2)", Range("a", 1, 7, step=2, is_integer=True)),
    ],
)
def test_intervals(word, expected):
    found = axis(word)
    assert found == expected
    assert type(found.low) is type(expected.low)
    assert found.word(found.low) == f"{expected.name}={expected.low!r}"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("a=shuffle(1,2)", "leave out shuffle"),
        ("~a=1,2", "takes no list"),
        ("a=range(4,1)", "empty"),
        ("model=glob(x*)", "no option of model fits"),
        ("a=1,1", "1 is there twice"),
        ("a=range(1,4,0)", "can't be 0"),
        ("a=interval(2,1)", "the first below the second"),
        ("a=tag(log,interval(0,1))", "above 0"),
        ("a=nan,1", "finite numbers, got nan"),
        ("a=choice(1,inf)", "finite numbers, got inf"),
        ("a=tag(lin,interval(1,2))", "the tag of an interval is log, got lin"),
    ],
)
def test_lists_that_are_refused(word, message):
    with pytest.raises(ConfigError, match=message):
        split([word], OFFERED)


def test_of_a_key_given_twice_the_last_word_counts_at_the_place_of_the_first():
    axes, others = split(["seed=0,1", "model=tiny,segnet", "seed=3,4", "x=1,2", "x=5"], OFFERED)
    assert [(a.key, a.all_values()) for a in axes] == [("seed", (3, 4)), ("model", ("tiny", "segnet"))]
    assert others == ["x=5"]


def test_a_grid_counts_as_hydra_does(hydra_grid):
    words = ["model=pspnet,segnet", "optimizer.lr=1e-3,1e-2", "+x='a,b',c", "fixed=1", "seed=range(0,3)"]
    axes, others = split(words, OFFERED)
    ours = [words_of(axes, point(axes, number), others) for number in range(2 * 2 * 2 * 3)]
    assert [sorted(trial) for trial in ours] == [sorted(trial) for trial in hydra_grid(words)]


@pytest.fixture
def hydra_grid():
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return lambda words: BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(words), None)[0]


def test_the_file_of_a_search_names_axes_too():
    space = {
        "optimizer.lr": {"low": 1e-4, "high": 0.1, "log": True},
        "data.batch_size": {"low": 2, "high": 8, "step": 2},
        "model": ["tiny", "a,b", "1e5", [48, 48], None, "~/data"],
        "seed": "range(0, 3)",
    }
    lr, batch, model, seed = from_file(space, OFFERED)
    assert (lr, batch) == (Range("optimizer.lr", 1e-4, 0.1, log=True), Range("data.batch_size", 2, 8, False, 2, True))
    assert isinstance(model, Choices)
    assert model.texts == ("tiny", "'a,b'", "'1e5'", "[48,48]", "null", "~/data")
    assert split([model.word("1e5")], OFFERED) == ([], ["model='1e5'"])
    assert seed.all_values() == (0, 1, 2)
    assert model.labels == ("tiny", "a,b", "1e5", "[48,48]", None, "~/data")
    assert [model.value(label) for label in model.labels] == list(model.values)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"low": 1, "hihg": 2}, r"space\.a\.hihg.*did you mean `high`"),
        ({"lr": [1, 2]}, r"space\.a\.lr.*a key of trainings is written whole, `a\.lr:`"),
        ({"low": 1}, "low and high have to be numbers"),
        ({"low": 1, "high": 2, "step": 0.5, "type": "int"}, "type=int"),
        ({"low": 1, "high": 2, "log": True, "step": 1}, "without log"),
        (3, r"space\.a=3: expected a list"),
        ("tiny", r"one value is no axis"),
        ([], "the list is empty"),
    ],
)
def test_entries_of_a_file_that_are_refused(entry, message):
    with pytest.raises(ConfigError, match=message):
        from_file({"a": entry}, OFFERED)


def test_an_interval_with_steps_ends_at_its_last_step():
    (found,) = from_file({"a": {"low": 4, "high": 17, "step": 4}}, OFFERED)
    assert (found.ends, found.all_values()) == ((4, 16), (4, 8, 12, 16))


def test_an_interval_is_no_grid():
    with pytest.raises(ConfigError, match=r"this is no list of values.*sweep=optuna_random"):
        axis("a=interval(0,1)").all_values()
