"""What ``--help`` shows, read from the configuration files alone: fast, and true for options of one's own."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from segframe.config.options import (
    PRIMARY,
    ConfigError,
    config_dirs,
    default_options,
    did_you_mean,
    groups,
    key_line,
    option_file,
    summary,
)

MOST_USED = (
    "trainer.max_epochs",
    "data.batch_size",
    "optimizer.lr",
    "trainer.precision",
    "trainer.devices",
    "trainer.accumulate_grad_batches",
    "data.num_workers",
    "seed",
    "run.dir",
    "resume",
)
"""The keys that ``--help`` explains."""

_FLAGS = {
    "--help [GROUP]": "this text, or the options of one group",
    "-m, --multirun": "train with every combination of lists such as seed=0,1,2: segframe sweep",
    "--cfg": "print the composed configuration and stop",
    "--config-dir DIR": "look for options in DIR/GROUP/OPTION.yaml first (also SEGFRAME_CONFIG_DIR)",
    "--version": "print the version",
}
_WIDTH = 110


def overview(verbs: Mapping[str, str], extra: Sequence[str] = ()) -> str:
    """Returns the help text.

    Args:
        verbs: What each verb does, in one line.
        extra: Further configuration folders.
    """
    folders = config_dirs(extra)
    primary = option_file(folders, PRIMARY)
    assert primary is not None
    defaults = default_options(primary)
    offered = groups(folders)
    starred = {g: ", ".join(f"{n}*" if n == defaults.get(g) else n for n in names) for g, names in offered.items()}
    keys = {key: _default(key, folders, primary, defaults) for key in MOST_USED}
    parts = [
        "usage: segframe VERB [GROUP=OPTION ...] [KEY=VALUE ...]      python train.py ... is segframe train ...",
        "example: segframe train strategy=ddp model=segnet optimizer.lr=0.01 trainer.max_epochs=50",
        _table("verbs", verbs),
        _table("groups (* the default; --help GROUP explains its options)", starred),
        _table("the keys used most (--cfg shows all)", keys),
        _table("flags", _FLAGS),
    ]
    return "\n\n".join(parts)


def options_of(group: str, extra: Sequence[str] = ()) -> str:
    """Returns the options of ``group`` with their first comment lines.

    Raises:
        ConfigError: If there is no such group.
    """
    folders = config_dirs(extra)
    offered = groups(folders)
    if group not in offered:
        hint = did_you_mean(group, offered) or ";"
        raise ConfigError(f"--help {group}: there is no such group{hint} groups: {', '.join(offered)}")
    files = {name: option_file(folders, f"{group}/{name}") for name in offered[group]}
    return _table(f"{group}=OPTION", {name: summary(file) for name, file in files.items() if file})


def _default(key: str, folders: Sequence[Path], primary: Path, defaults: Mapping[str, str]) -> str:
    group, _, rest = key.partition(".")
    file = option_file(folders, f"{group}/{defaults[group]}") if group in defaults else primary
    line = key_line(file, rest if group in defaults else key) if file else None
    return f"{line[0]:<8}  {line[1]}".strip() if line else ""


def _table(title: str, rows: Mapping[str, str]) -> str:
    width = max((len(name) for name in rows), default=0)
    lines = [title]
    for name, text in rows.items():
        start = f"  {name:<{width}}  "
        lines += textwrap.wrap(text, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start)) or [start]
    return "\n".join(lines)
