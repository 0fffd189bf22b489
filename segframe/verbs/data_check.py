"""``segframe data check``: scans every pair of a data set and says what is wrong, why, and what mends it.

segframe data check [WORDS] [out=DIR] [workers=N]

WORDS are those of `segframe train`: dataset=NAME dataset.root=DIR says which data. out=DIR holds report.json and
histogram.png; the default is data-check-NAME. workers=N are the processes that read; 0 reads in this one. The exit
code is 1 if there are errors.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from segframe.config.options import ConfigError
from segframe.verbs.own_words import composed, taken

if TYPE_CHECKING:
    from segframe.data.facts import Split
    from segframe.data.findings import Finding

_OWN_KEYS = ("out", "workers")
_SPLITS = ("train", "val")


def main(words: list[str]) -> int:
    """Checks the data set that the words of a training run describe; returns 1 if there are errors.

    Args:
        words: Those of ``train``, and ``out=DIR`` for the report, ``workers=N`` for the processes that read.

    Raises:
        ConfigError: If the words are wrong.
    """
    own = taken(words, _OWN_KEYS)
    workers = _number_of_workers(own.get("workers"))
    from segframe.config.compose import resolved

    config = composed(words, _OWN_KEYS)
    values = resolved(config)
    name = Path(str(OmegaConf.create({"name": "${hydra_choice:dataset}"}).name)).name
    out = Path(own.get("out") or f"data-check-{name}")

    from segframe.data.check import check, tally
    from segframe.spans import data_use
    from segframe.verbs import data_report

    splits = [_scanned(config, split, workers) for split in _SPLITS]
    findings = [*_stated_wrongly(values["dataset"], splits), *check(splits, data_use(values))]
    _remember(values["dataset"], splits, findings)
    data_report.show(splits, findings, has_label_map="label_map" in values["dataset"])
    written = data_report.write(out, name, splits, findings)
    print(f"\n{written}\n{tally(findings)}")
    return int(any(finding.severity == "error" for finding in findings))


def _number_of_workers(text: str | None) -> int:
    from segframe.data.pool import usable_cores

    if text is None:
        return usable_cores()
    if not text.isdecimal():
        raise ConfigError(f"workers={text} is not allowed; allowed: an integer >= 0, the processes that read")
    return int(text)


def _scanned(config: DictConfig, name: str, workers: int) -> Split:
    """Returns what is to be seen of a split; one that can't be had says why."""
    from segframe.build import make_dataset
    from segframe.data.facts import Split
    from segframe.data.pairs import UnpairedError
    from segframe.data.scan import scan

    split = Split(name)
    try:
        split.dataset = make_dataset(config, name)
    except UnpairedError as error:
        split.unpaired, split.dataset = error, error.dataset
    except Exception as error:
        # The other split is checked all the same, and a user's own class may fail in any way.
        split.error = error
    if split.dataset is not None:
        scan(split, range(len(split.dataset)), images=True, num_workers=workers)
    return split


def _stated_wrongly(dataset: dict[str, Any], splits: Sequence[Split]) -> list[Finding]:
    """Returns where the configuration states facts that the data set contradicts."""
    from segframe.data.findings import Finding
    from segframe.spans import check_classes

    try:
        check_classes(dataset, [split.dataset for split in splits if split.dataset is not None])
    except ValueError as error:
        return [Finding("error", "config", "train, val", str(error))]
    return []


def _remember(dataset: dict[str, Any], splits: Sequence[Split], findings: Sequence[Finding]) -> None:
    """Spares a training run the check of what was found right."""
    from segframe.data.verified import Checked, remember

    wrong = ", ".join(finding.split for finding in findings if finding.severity == "error")
    notes = set()
    for split in splits:
        if split.dataset is not None and split.name not in wrong:
            checked = Checked(split.name, split.dataset, dataset[split.name], len(split.dataset))
            notes.add(remember(checked, split))
    for note in filter(None, notes):
        print(f"note: {note}", file=sys.stderr)
