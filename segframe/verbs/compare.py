"""``segframe compare``: says what differs between runs, and whether it means anything.

segframe compare A B [C...] [checkpoint=final|best] [metric=miou] [resamples=10000] [seed=0] [out=FOLDER]

A, B, C are run folders, or groups of runs that differ in their seed alone: folders with commas, a pattern in quotes
("outputs/pspnet-*"), a folder of runs, or FOLDER:KEY=VALUE for those of its runs (a sweep's trials) that fulfil a
condition, such as outputs/sweeps/grid-1a2b3c4d:model=pspnet:optimizer.lr=0.01. All are compared with A.

checkpoint=final takes the last evaluation, best that of best.ckpt, another word a file of RUN/per_image. metric is
miou, pixel_accuracy, mean_accuracy, dice or fwiou. resamples and seed are those of the bootstrap over images.
out=FOLDER holds comparison.json, classes.csv, curves.png and differences.png; the default is comparison.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from segframe.config.options import ConfigError, did_you_mean
from segframe.runs.scores import METRICS

_OWN = {"checkpoint": "final", "metric": "miou", "resamples": "10000", "seed": "0", "out": "comparison"}
_RESAMPLES = (1000, 100_000)
_MOST_SEED = 2**63 - 1
_MOST_GROUPS = 12
_PIPE_WIDTH = 160


def main(words: list[str]) -> int:
    """Prints and draws the comparison; returns 0.

    Args:
        words: Runs, and the verb's own keys.

    Raises:
        ConfigError: If the words are wrong or the runs can't be compared.
    """
    named, own = _understood(words)
    resamples = _number("resamples", own["resamples"], *_RESAMPLES)
    seed = _number("seed", own["seed"], 0, _MOST_SEED)
    if own["metric"] not in METRICS:
        hint = did_you_mean(own["metric"], METRICS) or ";"
        raise ConfigError(f"metric={own['metric']}: there is no such metric{hint} there are: {', '.join(METRICS)}")
    from rich.console import Console

    from segframe.figures.run_curves import run_curves
    from segframe.figures.score_differences import score_differences
    from segframe.runs import report
    from segframe.runs.comparison import compare
    from segframe.runs.counts import read_counts
    from segframe.runs.groups import differences, groups_of, titles
    from segframe.runs.verdict import name_of, percent, remarks

    groups = groups_of(named)
    counts = read_counts(groups, own["checkpoint"])
    out = _folder(own["out"])
    found = compare(groups, counts, own["metric"], resamples, seed)
    apart, told, names = differences(groups), remarks(groups, found, own["checkpoint"]), titles(groups)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PIPE_WIDTH)
    report.show(console, groups, apart, counts.classes, found, told)
    try:
        written = report.write(out, groups, apart, counts.classes, found, told)
        folders = [[record.folder for record in group.records] for group in groups]
        run_curves(names, folders, f"val/{own['metric']}", name_of(own["metric"]), out / "curves.png")
        rows = report.spans(counts.classes, found)
        score_differences(names, rows, percent(found.confidence), out / "differences.png")
    except OSError as error:
        raise ConfigError(f"out={out} can't be written ({error.strerror}); give another folder") from error
    print(f"wrote {' '.join(map(str, [*written, out / 'curves.png', out / 'differences.png']))}")
    return 0


def _understood(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Returns what is compared, and the verb's own keys."""
    named, own = list[str](), dict(_OWN)
    for word in (word for word in words if not word.startswith("--config-dir=")):
        key, sign, value = word.partition("=")
        is_place = not sign or os.path.exists(word) or ":" in key or "/" in key or "," in key
        if is_place and not word.startswith("-"):
            named.append(word.rstrip("/"))
        elif key in own:
            own[key] = value
        else:
            hint = did_you_mean(key, own) or ";"
            raise ConfigError(f"{word}: segframe compare has no such key{hint} there are: {', '.join(own)}")
    if len(named) < 2:
        got = f"got {named[0]} alone" if named else "got none"
        raise ConfigError(
            f"segframe compare needs at least two runs or groups of runs, {got}: segframe compare RUN_A RUN_B"
        )
    if len(named) > _MOST_GROUPS:
        raise ConfigError(
            f"{len(named)} runs are too many to be read side by side, {_MOST_GROUPS} at most; the runs of a group are "
            "given with commas, as one word"
        )
    return named, own


def _number(key: str, text: str, least: int, most: int) -> int:
    if not text.isdecimal() or len(text) > len(str(most)) or not least <= int(text) <= most:
        raise ConfigError(f"{key}={text} is not allowed; allowed: integers from {least} to {most}")
    return int(text)


def _folder(text: str) -> Path:
    if not text:
        raise ConfigError("out= names no folder; give one, such as out=comparison")
    out = Path(text)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out={text} can't be a folder ({error.strerror}); give another one") from error
    return out
