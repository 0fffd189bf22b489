import pytest

from segframe.config.options import ConfigError
from segframe.verbs.own_words import composed, taken


def test_takes_its_own_and_leaves_the_others():
    words = ["num=3", "dataset=synthetic", "num=5", "seed=4"]
    assert taken(words, ("num", "out")) == {"num": "5"}
    assert composed(words, ("num", "out")).seed == 4


@pytest.mark.parametrize(
    ("word", "said"), [("nm=5", "nm: .* did you mean `num`"), ("sed=5", "sed: .* did you mean `seed`")]
)
def test_a_typo_is_answered_by_the_nearest_key_of_verb_or_run(word, said):
    with pytest.raises(ConfigError, match=said):
        composed([word], ("num", "out"))
