"""A verb's own words among those of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from segframe.config.options import ConfigError, nearest
from segframe.config.overrides import name_of, value_of

if TYPE_CHECKING:
    from omegaconf import DictConfig


def taken(words: Sequence[str], keys: Sequence[str]) -> dict[str, str]:
    """Returns the values of a verb's own keys; the last of a key given twice counts.

    Args:
        words: The command line behind the verb.
        keys: The verb's own keys.
    """
    return {name_of(word): value_of(word) for word in words if name_of(word) in keys}


def composed(words: Sequence[str], keys: Sequence[str]) -> DictConfig:
    """Returns the configuration that the other words describe.

    Args:
        words: The command line behind the verb.
        keys: The verb's own keys.

    Raises:
        ConfigError: If the words are not right; a key that is nearly one of the verb's is told so.
    """
    from segframe.config.compose import compose

    others = [word for word in words if name_of(word) not in keys]
    try:
        return compose(others)
    except ConfigError as error:
        for name in map(name_of, others):
            guess = nearest(name, keys)
            if guess and f"{name}: there is no such key" in str(error):
                own = ", ".join(keys)
                raise ConfigError(
                    f"{name}: there is no such key; did you mean `{guess}`? of this verb: {own}"
                ) from None
        raise
