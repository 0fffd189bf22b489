"""The command line's verbs for a notebook or a Python prompt: what is wrong is raised, what is said is printed.

Example: ``folder = train("model=pspnet", "trainer.max_epochs=4")``, then ``run("evaluate", f"run={folder}")``.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from segframe.cli import dispatch
from segframe.config.compose import compose, resolved
from segframe.config.options import ConfigError
from segframe.config.overrides import name_of, value_of

# tqdm, as other packages import it, misses its widgets in a notebook; segframe's own progress needs none.
warnings.filterwarnings("ignore", message="IProgress not found")


class VerbError(RuntimeError):
    """A verb ended with another exit code than 0; what it has printed says why."""


def run(*words: str) -> None:
    """Runs ``segframe WORDS`` and returns when it has ended.

    All it tells goes to standard output, since notebooks show what stands on standard error as if it were wrong.

    Args:
        words: The verb and what follows it, one word each.

    Raises:
        ConfigError: If a word is not right.
        VerbError: If the verb did not end well.
    """
    with _told_on_stdout():
        code = dispatch(words)
    if code:
        raise VerbError(f"segframe {words[0]} ended with the exit code {code}; the lines above say why.")


@contextlib.contextmanager
def _told_on_stdout() -> Iterator[None]:
    """Sends what this process, and those that it starts, tell on standard error to standard output."""
    sys.stderr.flush()
    own = os.dup(2)
    os.dup2(1, 2)
    try:
        with contextlib.redirect_stderr(sys.stdout):
            yield
    finally:
        os.dup2(own, 2)
        os.close(own)


def train(*words: str) -> Path:
    """Trains as ``segframe train WORDS`` does, and returns the run folder.

    Args:
        words: ``KEY=VALUE`` and ``GROUP=OPTION``, one word each.

    Raises:
        ConfigError: If a word is not right.
        VerbError: If the run did not finish.
    """
    if flags := [word for word in words if word.startswith("-") and not word.startswith("--config-dir")]:
        raise ConfigError(f"{flags[0]}: train() takes KEY=VALUE and GROUP=OPTION alone; run() takes whole commands")
    given = {name_of(word): value_of(word) for word in words}
    if source := given.get("resume"):
        run("train", *words)
        return Path(source).parent.parent if source.endswith(".ckpt") else Path(source)
    folder = given.get("run.dir") or str(resolved(compose(words))["run"]["dir"])
    run("train", *words, *([] if "run.dir" in given else [f"run.dir={folder}"]))
    return Path(folder)
