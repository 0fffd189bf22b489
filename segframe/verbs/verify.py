"""``segframe verify``: runs a strategy and one process on the same data, and says whether the numbers agree.

segframe verify strategy=NAME trainer.devices=N [WORDS] [verify.steps=3] [out=FILE.json]

WORDS are those of `segframe train`, over the recipe experiment=certificate: model=unet, dataset=camvid
dataset.root=DIR, and so on. verify.steps=N trains N steps; verify.precisions=fp64 runs one of fp64 and fp32;
verify.fp64=1e-9 and verify.fp32=1e-5 are the largest relative differences. out=FILE.json writes everything. The exit
code is 0 if the numbers agree, 1 if they don't, 2 for wrong words.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from segframe.config.options import ConfigError
from segframe.config.overrides import name_of
from segframe.verbs.own_words import composed, taken

_OWN_KEYS = ("verify.steps", "verify.precisions", "verify.fp64", "verify.fp32", "out")


def main(words: list[str]) -> int:
    """Certifies the strategy that words name; returns 0 if the numbers agree, 1 if not.

    Args:
        words: Those of ``train``, and ``verify.steps=N``, ``verify.precisions=fp64,fp32``,
            ``verify.fp64=TOLERANCE``, ``verify.fp32=TOLERANCE``, ``out=FILE.json``.

    Raises:
        ConfigError: If the words are wrong.
    """
    from segframe.certificate.run import RECIPE, TOLERANCES, RankError, certify

    own = taken(words, _OWN_KEYS)
    others = [word for word in words if name_of(word) not in _OWN_KEYS]
    if not any(name_of(word) == "strategy" for word in others):
        raise ConfigError("verify needs the strategy that it shall look at: segframe verify strategy=ddp")
    steps = _whole_number("verify.steps", own.get("verify.steps", "3"))
    precisions = _precisions(own.get("verify.precisions", "fp64,fp32"))
    tolerances = {name: _tolerance(name, own, value) for name, value in TOLERANCES.items()}
    out = Path(own["out"]) if own.get("out") else None
    if out is not None and not out.parent.is_dir():
        raise ConfigError(f"out={out}: there is no folder {out.parent}")
    devices = composed([RECIPE, *words], _OWN_KEYS).trainer.devices
    if not isinstance(devices, int):
        raise ConfigError(f"trainer.devices={devices}: verify needs a number of ranks, such as trainer.devices=2")
    try:
        report = certify(others, devices, None, precisions, num_steps=steps, tolerances=tolerances)
    except RankError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return error.code
    report.show()
    if out is not None:
        from segframe.runfolder import write_json

        write_json(out, report.as_json())
        print(f"wrote {out}")
    return 0 if report.passed else 1


def _whole_number(key: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{key}={text} is not allowed; allowed: an integer >= 1")
    return int(text)


def _precisions(text: str) -> list[str]:
    from segframe.certificate.run import PRECISIONS

    names = [name.strip() for name in text.strip("[]").split(",")]
    for name in names:
        if name not in PRECISIONS:
            raise ConfigError(f"verify.precisions={text}: {name!r} is not allowed; allowed: {', '.join(PRECISIONS)}")
    return list(dict.fromkeys(names))


def _tolerance(name: str, own: Mapping[str, str], otherwise: float) -> float:
    text = own.get(f"verify.{name}", "")
    if not text:
        return otherwise
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise ConfigError(f"verify.{name}={text} is not allowed; allowed: a number from 0 to below 1, such as 1e-9")
    return value
