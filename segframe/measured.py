"""The measurements that the repository keeps, found from any of its folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from segframe.config.options import nearest

FOLDER = "benchmarks"
"""The folder of the repository that holds them, one JSON file each."""


def kept() -> list[str]:
    """Returns the names of the measurements that are there, such as ``strategies_cpu``."""
    folder = _folder()
    return sorted(path.stem for path in folder.glob("*.json")) if folder else []


def measurement(name: str) -> dict[str, Any]:
    """Returns what was measured.

    Args:
        name: One of ``kept()``.

    Raises:
        FileNotFoundError: If there is no such measurement, or the repository is not around.
    """
    folder = _folder()
    if folder is None:
        raise FileNotFoundError(
            f"there is no folder {FOLDER}/ in {Path.cwd()}, in a folder above it, or beside the package; start from a "
            "clone of the repository, which holds the measurements."
        )
    path = folder / f"{name}.json"
    if not path.is_file():
        guess = nearest(name, kept())
        hint = f"did you mean {guess}?" if guess else f"there are: {', '.join(kept())}."
        raise FileNotFoundError(f"{folder} holds no {path.name}; {hint}")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _folder() -> Path | None:
    """Returns the folder of measurements: from here upwards, else that of the checkout the package is run from."""
    places = (Path.cwd(), *Path.cwd().parents, Path(__file__).parents[1])
    return next((place / FOLDER for place in places if (place / FOLDER / "strategies_cpu.json").is_file()), None)
