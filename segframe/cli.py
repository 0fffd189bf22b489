"""``segframe VERB [overrides]``: what needs torch is imported inside the verb that needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segframe import __version__, slurm, streams
from segframe.config.options import DIR_FLAG, ConfigError, nearest, with_config_dirs
from segframe.ranks import place

if TYPE_CHECKING:
    from omegaconf import DictConfig

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
_MULTIRUN = ("-m", "--multirun")


def main(words: Sequence[str] | None = None) -> int:
    """Runs one verb and returns the exit code: 0 done, 1 failed, 2 wrong words, 130 interrupted.

    Args:
        words: The words behind the program's name; None takes them from the command line.
    """
    tells = True
    streams.fill_closed()
    streams.print_all_letters()
    try:
        tells = _is_first_here()
        return dispatch(sys.argv[1:] if words is None else words)
    except ConfigError as error:
        if tells:  # the ranks of a machine are wrong alike
            print(f"segframe: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _is_first_here() -> bool:
    """Whether this is the first of the processes that a launcher has started on this machine, or the only one."""
    try:
        slurm.adopt()
        return place().local_rank == 0
    except ValueError as error:
        raise ConfigError(str(error)) from None


def train(words: list[str]) -> int:
    """Trains, or goes on with resume=RUN; the last of a key given twice counts; -m trains with every value of lists."""
    from segframe.config.compose import resolved

    if any(word in _MULTIRUN for word in words):
        return dispatch(["sweep", *words])
    _refuse_sweep(words)
    is_asked_only = "--cfg" in words
    words = [word for word in words if word != "--cfg"]
    config, own_words = _training_config(words, _taken(words, "resume"))
    if is_asked_only:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(config), end="")
        return 0
    from segframe import launch, planning

    values = resolved(config)
    num_ranks = launch.plan(values)
    planning.check_batch(values, planning.num_ranks(values))
    if num_ranks > 1:
        planning.check_folder(values)
        return _supervised("train", words, num_ranks, Path(values["run"]["dir"]))
    again = _started_again(values, words)
    if again is not None:
        config, own_words = _training_config(words, again)
    from segframe import run as lifecycle

    return lifecycle.train(config, own_words)


def _refuse_sweep(words: Sequence[str]) -> None:
    """Refuses words of a sweep, which trains more than once."""
    from segframe.config.overrides import name_of

    own = [word for word in words if name_of(word).split(".")[0] == "sweep"]
    if own:
        raise ConfigError(f"{own[0]}: `segframe train` trains once; `segframe sweep {' '.join(words)}`, or -m")


def _training_config(words: list[str], source: str) -> tuple[DictConfig, list[str]]:
    """Returns the configuration of a training run and the words that it was composed from."""
    from segframe.config.compose import compose, compose_resume, run_overrides
    from segframe.config.overrides import name_of

    if not source:
        words = [word for word in words if name_of(word) != "resume"]
        return compose(words), words
    # A checkpoint stands in the folder RUN/checkpoints.
    run = str(Path(source).parent.parent) if source.endswith(".ckpt") else source
    config = compose_resume(run, words)
    config.resume = source
    return config, run_overrides(run, words)


def _started_again(values: dict[str, Any], words: list[str]) -> str | None:
    """Returns the run folder that a launcher's restart goes on with; asks only where there is such a launcher."""
    if not os.environ.keys() & {"RANK", "SLURM_RESTART_COUNT"}:
        return None
    from segframe import restarts

    try:
        return restarts.folder_to_go_on_with(values, _taken(words, "run.dir"), _taken(words, "resume"))
    except (ConnectionError, restarts.AnotherRankError) as error:
        raise ConfigError(str(error)) from None


def _supervised(verb: str, words: list[str], num_ranks: int, folder: Path) -> int:
    """Runs a verb as several processes."""
    from segframe.ranks import RUN_DIR_VARIABLE
    from segframe.supervisor import supervise

    return supervise(main, [verb, *words], num_ranks, folder, RUN_DIR_VARIABLE if verb == "train" else None)


def evaluate(words: list[str]) -> int:
    """Measures a finished run again: run=RUN [checkpoint=best|last|previous|PATH] [overrides]."""
    run = _taken(words, "run")
    if not run:
        raise ConfigError("evaluate needs a run folder: segframe evaluate run=outputs/DATE/TIME-MODEL-DATASET")
    from segframe.config.compose import compose_resume, resolved
    from segframe.config.overrides import name_of

    checkpoint = _taken(words, "checkpoint") or "best"
    if checkpoint not in ("best", "last", "previous") and not Path(checkpoint).exists():
        raise ConfigError(f"checkpoint={checkpoint}: there is no such file; give best, last, previous or a path")
    rest = [word for word in words if name_of(word) not in ("run", "checkpoint")]
    config = compose_resume(run, rest, for_training=False)
    from segframe import launch

    num_ranks = launch.plan(resolved(config))
    if num_ranks > 1:
        return _supervised("evaluate", words, num_ranks, Path(run))
    from segframe import run as lifecycle

    return lifecycle.evaluate(config, checkpoint, run)


def doctor(words: list[str]) -> int:
    """Prints versions and devices, whether they fit each other, and the remedy where they don't."""
    if words:
        raise ConfigError(f"doctor takes no further words, got: {' '.join(words)}")
    from segframe.doctor import report

    return report()


def data(words: list[str]) -> int:
    """Looks after data sets: data check (labels), data browse (pictures), data prepare (download)."""
    return _further("data", DATA_VERBS, words)


def benchmark(words: list[str]) -> int:
    """Measures on this machine: benchmark strategies (time, memory and traffic of each)."""
    return _further("benchmark", BENCHMARK_VERBS, words)


def _in_module(verb: str, summary: str) -> Callable[[list[str]], int]:
    """Returns a verb whose module of segframe/verbs is imported when it is called."""

    def run(words: list[str]) -> int:
        from importlib import import_module

        code: int = import_module(f"segframe.verbs.{verb}").main(words)
        return code

    run.__doc__ = summary
    return run


def _further(verb: str, further: Sequence[str], words: list[str]) -> int:
    """Runs the verb that follows another one."""
    from importlib import import_module

    if not words or words[0] not in further:
        guess = nearest(words[0], further) if words else None
        got = f"{verb} {words[0]}: there is no such verb" if words else f"{verb} needs a further verb"
        hint = f"; did you mean `{verb} {guess}`?" if guess else ";"
        raise ConfigError(f"{got}{hint} verbs: {', '.join(f'{verb} {name}' for name in further)}")
    code: int = import_module(f"segframe.verbs.{verb}_{words[0]}").main(words[1:])
    return code


DATA_VERBS = ("check", "browse", "prepare")
"""What may follow ``data``: each is a module of segframe/verbs."""

BENCHMARK_VERBS = ("strategies",)
"""What may follow ``benchmark``: the same."""

_FURTHER = {"data": DATA_VERBS, "benchmark": BENCHMARK_VERBS}

_OF_MODULES = {
    "verify": "Certifies that a strategy computes what one process does: strategy=NAME trainer.devices=N [model=NAME].",
    "sweep": "Trains many times, over lists (also: train -m) or by a search: [sweep=SEARCH] [sweep.parallel=N] WORDS.",
    "runs": "Lists runs and sweeps: [FOLDER] [model=pspnet ...] [sort=-miou] [columns=...] [out=FILE.csv].",
    "compare": "Says what differs between runs, and whether it means anything: A B [C...] [out=FOLDER].",
}
"""Verbs that are a module of segframe/verbs, which explains its words in its first lines."""

VERBS: dict[str, Callable[[list[str]], int]] = {
    "train": train,
    "evaluate": evaluate,
    "data": data,
    "benchmark": benchmark,
    **{verb: _in_module(verb, summary) for verb, summary in _OF_MODULES.items()},
    "doctor": doctor,
}
"""What the first word may be; a verb takes the other words and returns an exit code."""

_OF_ONE_PROCESS = ("data", "benchmark", *_OF_MODULES)


def dispatch(words: Sequence[str]) -> int:
    """Runs one verb and returns its exit code.

    Args:
        words: As on the command line.

    Raises:
        ConfigError: If a word is not right.
    """
    if "--version" in words:
        print(f"segframe {__version__}")
        return 0
    words = with_config_dirs(words)
    if not words or "--help" in words or "-h" in words:
        print(_help(words))
        return 0
    verb, *rest = words
    if verb not in VERBS:
        raise ConfigError(_unknown_verb(verb, words))
    if verb in _OF_ONE_PROCESS and place().world_size > 1:
        raise ConfigError(
            f"{verb} is started as one process, which starts others where it needs them, and a launcher has started "
            f"{place().world_size}; give the command without torchrun or srun."
        )
    return VERBS[verb](rest)


def _unknown_verb(verb: str, words: Sequence[str]) -> str:
    guess = nearest(verb, VERBS)
    if "=" in verb or verb.startswith("-"):
        return f"the first word is a verb; did you mean `segframe train {' '.join(words)}`?"
    hint = f"; did you mean `{guess}`?" if guess else ";"
    return f"{verb}: there is no such verb{hint} verbs: {', '.join(VERBS)}"


def _help(words: Sequence[str]) -> str:
    from segframe.config.usage import options_of, overview

    extra = [word.partition("=")[2] for word in words if word.startswith(f"{DIR_FLAG}=")]
    verb = next((word for word in words if word in (*_FURTHER, *_OF_MODULES)), None)
    if verb is not None:
        options = [options_of(verb, extra)] if verb == "sweep" else []
        return "\n\n".join([_help_of_modules([verb, *words]), *options])
    asked = [word for word in words if not word.startswith("-") and "=" not in word and word not in VERBS]
    if asked:
        return options_of(asked[0], extra)
    return overview({name: (verb.__doc__ or "").splitlines()[0] for name, verb in VERBS.items()}, extra)


def _help_of_modules(words: Sequence[str]) -> str:
    from importlib import import_module

    further = _FURTHER.get(words[0], ())
    verbs = [f"{words[0]}_{v}" for v in [word for word in words if word in further] or further] or [words[0]]
    return "\n\n".join((import_module(f"segframe.verbs.{verb}").__doc__ or "").strip() for verb in verbs)


def _taken(words: Sequence[str], name: str) -> str:
    """Returns the last value that ``name`` is given, empty where it is not given or null."""
    from segframe.config.overrides import name_of, value_of

    values = [value_of(word) for word in words if name_of(word) == name and "=" in word]
    return values[-1] if values and values[-1] != "null" else ""
