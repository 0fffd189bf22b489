"""Words that a message offers mean what they say once a shell and Hydra have read them."""

from __future__ import annotations

import subprocess

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from segframe.wording import pasted


@pytest.mark.parametrize(
    "text",
    [
        "a/b-1.x",
        "my runs/a",
        "a,b",
        "x(1)",
        "it's",
        "$HOME/x",
        "ü/ä",
        "a\\b",
        "\\'",
        "a\\",
        'a"b',
        "a!b",
        "~/x",
        "a=b",
        "[1]",
    ],
)
def test_a_pasted_word_is_read_back(text: str) -> None:
    said = subprocess.run(["bash", "-c", f"printf %s {pasted('resume', text)}"], capture_output=True, check=True).stdout
    (override,) = OverridesParser.create().parse_overrides([said.decode()])
    assert (override.key_or_group, override.value()) == ("resume", text)
