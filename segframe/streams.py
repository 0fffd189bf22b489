"""Standard streams as every verb can rely on them, however the shell has started it."""

from __future__ import annotations

import io
import os
import sys


def fill_closed() -> None:
    """Opens what the shell has closed (``>&-``): else the next file or socket gets its number and what is printed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            if getattr(sys, name) is None:
                setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def print_all_letters() -> None:
    """Lets paths and names be printed whose letters the terminal's encoding lacks, or that are no letters at all."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
