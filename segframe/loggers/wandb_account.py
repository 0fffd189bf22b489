"""Where wandb's data goes: to the account of this machine, or to a folder. Needs neither torch nor wandb."""

from __future__ import annotations

import netrc
import os
import secrets
import sys
from pathlib import Path
from urllib.parse import urlsplit

ID_FILE = "wandb_id"
"""The file of a run folder or sweep folder that keeps the id of its wandb run."""


def default_mode(folder: Path, tells: bool) -> str:
    """Returns ``WANDB_MODE`` where it is set, else ``online`` where an API key is configured, else ``offline``.

    Args:
        folder: The run folder.
        tells: Whether to say on stderr that the data stays here, and how to send it.
    """
    if asked := os.environ.get("WANDB_MODE"):
        return asked
    if _has_api_key():
        return "online"
    if tells:
        print(
            "wandb: no API key is configured (wandb login), so this run is logged offline; "
            f"send it later with: wandb sync {folder}/wandb/offline-run-*",
            file=sys.stderr,
        )
    return "offline"


def kept_id(folder: Path, drawn: str | None = None) -> str:
    """Returns the id that a folder keeps; the first call draws it.

    Args:
        folder: The run folder or sweep folder; made if it is missing.
        drawn: The id to keep instead of any other.
    """
    file = folder / ID_FILE
    if drawn is not None or not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{drawn or secrets.token_hex(4)}\n", encoding="utf-8")
    return file.read_text(encoding="utf-8").strip()


def keep_files_in(folder: Path) -> None:
    """Lets wandb stage tables and artifacts in a folder; else they would go to the home directory.

    Args:
        folder: The run folder or sweep folder.
    """
    for variable, subfolder in (("WANDB_CACHE_DIR", "cache"), ("WANDB_DATA_DIR", "data")):
        os.environ[variable] = str(folder / "wandb" / subfolder)


def _has_api_key() -> bool:
    """Returns whether wandb would find a key; looks where wandb does, without asking the network."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    named = [Path(os.environ["NETRC"])] if "NETRC" in os.environ else [Path("~/.netrc"), Path("~/_netrc")]
    for file in (path.expanduser() for path in named):
        if file.is_file():
            try:
                return netrc.netrc(file).authenticators(host) is not None
            except netrc.NetrcParseError as error:
                print(f"wandb: {file} can't be read ({error})", file=sys.stderr)
    return False
