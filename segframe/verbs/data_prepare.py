"""``segframe data prepare NAME``: downloads, verifies and unpacks a data set, or says how to place it.

root=DIR      where to; the default is data/NAME
url=ADDRESS   a mirror, http://... or https://..., or a file that is here already, file:///PATH
part=NAME     says how to add a part that cannot be downloaded, such as SegmentationClassAug of voc
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from segframe.config.options import ConfigError, config_dirs, did_you_mean, groups, key_line, option_file

if TYPE_CHECKING:
    from segframe.data.download import Download, Manual

_KEYS = ("root", "url", "part")
_USAGE = "segframe data prepare NAME [root=DIR] [url=ADDRESS] [part=NAME]"
_FLAG = "--config-dir="


class _Asked(NamedTuple):
    name: str
    root: Path
    url: str
    part: str
    flags: list[str]

    def train(self, words: Sequence[str] = ()) -> str:
        """Returns the command that trains on the data set."""
        return shlex.join(
            ["segframe", "train", f"dataset={self.name}", f"dataset.root={self.root}", *words, *self.flags]
        )


def main(words: list[str]) -> int:
    """Prepares a data set; returns 0 when it is ready, 1 when something is left to do.

    Args:
        words: The data set's name, and ``root=DIR``, ``url=ADDRESS`` of a mirror or of a file, ``part=NAME`` of
            what can be added.

    Raises:
        ConfigError: If the words are wrong.
    """
    asked = _read(words)
    source = _source(asked)
    if source is None:
        print(f"dataset={asked.name} has nothing to prepare.")
        return 0
    from segframe.data.download import Download, DownloadError

    if asked.part:
        source = _part(source, asked)
    extra = () if isinstance(source, Download) else source.words
    ready, reason = _look(asked, extra) if asked.root.exists() or not isinstance(source, Download) else ("", "")
    if ready:
        print(f"{asked.name} is already prepared: {ready}\nTrain with:\n  {asked.train(extra)}")
        return 0
    if not isinstance(source, Download):
        print(f"{source.text.format(root=asked.root)}\nThen train with:\n  {asked.train(extra)}\n\nNow: {reason}")
        return 1
    try:
        return _prepare(source, asked, reason)
    except DownloadError as error:
        print(f"segframe: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; what has come is kept, and the same command goes on", file=sys.stderr)
        raise


def _read(words: Sequence[str]) -> _Asked:
    """Reads the words; ``dataset=NAME dataset.root=DIR`` is understood too."""
    flags = [word for word in words if word.startswith(_FLAG)]
    given = {"part": "", "url": ""}
    for word in words:
        key, equals, value = word.partition("=")
        key = {"dataset": "name", "dataset.root": "root"}.get(key, key) if equals else "name"
        value = value if equals else word
        if word in flags:
            continue
        if word.startswith("-") or (equals and key not in (*_KEYS, "name")):
            raise ConfigError(f"{word}: data prepare does not take it{did_you_mean(key, _KEYS)}; usage: {_USAGE}")
        if given.get(key):
            raise ConfigError(f"{word}: data prepare takes one {key}, and {given[key]} is given; usage: {_USAGE}")
        if not value:
            raise ConfigError(f"{word}: nothing stands behind `=`; usage: {_USAGE}")
        given[key] = value
    offered = groups(config_dirs([flag.removeprefix(_FLAG) for flag in flags])).get("dataset", [])
    name = given.get("name", "")
    if name not in offered:
        what = f"{name}: there is no such data set{did_you_mean(name, offered)}" if name else "which data set?"
        raise ConfigError(f"data prepare: {what}; data sets: {', '.join(offered)}; usage: {_USAGE}")
    if given["url"] and urlsplit(given["url"]).scheme not in ("http", "https", "file"):
        raise ConfigError(f"url={given['url']}: expected http://..., https://... or file:///ABSOLUTE/PATH")
    root = Path(given.get("root", f"data/{name}")).expanduser()
    return _Asked(name, root, given["url"], given["part"], flags)


def _source(asked: _Asked) -> Download | Manual | None:
    """Returns the constant SOURCE of the module that the data set's YAML file names."""
    file = option_file(config_dirs([flag.removeprefix(_FLAG) for flag in asked.flags]), f"dataset/{asked.name}")
    line = key_line(file, "train._target_") if file else None
    if line is None:
        return None
    found: Download | Manual | None = getattr(import_module(line[0].rpartition(".")[0]), "SOURCE", None)
    return found


def _part(source: Download | Manual, asked: _Asked) -> Manual:
    parts = getattr(source, "parts", {})
    if asked.part not in parts:
        listed = f"parts: {', '.join(parts)}" if parts else "it has no parts"
        raise ConfigError(
            f"part={asked.part}: {asked.name} has no such part{did_you_mean(asked.part, parts)}; {listed}"
        )
    found: Manual = parts[asked.part]
    return found


def _look(asked: _Asked, words: Sequence[str] = ()) -> tuple[str, str]:
    """Returns how many pairs each split has, or why the data set cannot be read."""
    from segframe.build import make_dataset
    from segframe.config.compose import compose
    from segframe.wording import quoted

    root = f"dataset.root={quoted(str(asked.root))}"
    config = compose([f"dataset={asked.name}", root, *words, *asked.flags])
    try:
        counts = [
            f"{len(make_dataset(config, split))} {name}"
            for split, name in (("train", "training"), ("val", "validation"))
        ]
    except (FileNotFoundError, ValueError) as error:
        return "", str(error)
    return f"{' and '.join(counts)} pairs in {asked.root}.", ""


def _prepare(source: Download, asked: _Asked, reason: str) -> int:
    from filelock import FileLock, Timeout

    from segframe.data.archive import unpack
    from segframe.data.download import DownloadError, require_space

    target = asked.root / source.holds
    if target.exists():
        raise DownloadError(
            f"{target} is there, but it is not whole: {reason}\nMove it away and call again to have it unpacked anew."
        )
    try:
        asked.root.mkdir(parents=True, exist_ok=True)
        with FileLock(asked.root / f".{source.name}.lock", timeout=0):
            archive = _archive(source, asked)
            require_space(asked.root, 0, source.unpacked)
            unpack(archive, asked.root, source.holds)
    except Timeout:
        raise DownloadError(f"Another process prepares {asked.name} in {asked.root}; let it finish.") from None
    except FileExistsError as error:
        raise DownloadError(f"{asked.root} is a file; choose a folder with root=DIR.") from error
    except OSError as error:
        raise DownloadError(f"{asked.root} cannot be written: {error}. Choose another folder with root=DIR.") from error
    ready, reason = _look(asked)
    if not ready:
        raise DownloadError(f"{target} was unpacked, and cannot be read: {reason}")
    print(f"{asked.name} is prepared: {ready}\n{archive} is not needed any more.")
    for part, manual in source.parts.items():
        command = shlex.join(["segframe", "data", "prepare", asked.name, f"root={asked.root}", f"part={part}"])
        print(f"For {' '.join(manual.words)} add {part}:\n  {command}")
    print(f"Train with:\n  {asked.train()}")
    return 0


def _archive(source: Download, asked: _Asked) -> Path:
    """Returns the verified archive: the one that was placed, or a download."""
    from segframe.data.archive import verify
    from segframe.data.download import DownloadError, gib, require_space
    from segframe.data.fetch import fetch

    placed = asked.root / source.name
    url = asked.url or source.url
    if urlsplit(url).scheme == "file":
        archive = Path(url2pathname(urlsplit(url).path))
        if not archive.is_file():
            raise DownloadError(f"url={url}: there is no file {archive}.")
        verify(archive, source)
        return archive
    if not placed.exists():
        part = placed.with_name(f"{placed.name}.part")
        have = part.stat().st_size if part.exists() else 0
        said = require_space(asked.root, max(source.size - have, 0), source.unpacked)
        print(f"{asked.name}: {url}\n{said}", file=sys.stderr)
        try:
            fetch(url, placed)
        except DownloadError as error:
            mirrors = f"A mirror: {' or '.join(f'url={url}' for url in source.mirrors) or 'url=ADDRESS'}"
            raise DownloadError(
                f"{error}\nWithout a network here: download it elsewhere ({gib(source.size)}), place it at {placed}\n"
                f"and call this command again; it is then verified and unpacked. {mirrors}"
            ) from error
    try:
        verify(placed, source)
    except DownloadError as error:
        aside = placed.replace(placed.with_name(f"{placed.name}.bad"))
        raise DownloadError(f"{error} It was set aside as {aside}; call again to download it anew.") from error
    return placed
