"""Annotations are read from source files, and values are judged by them."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Interval, Len

from segframe.config.schema import ABSENT, describe, fits, violations
from segframe.config.signatures import read_signature
from segframe.ranges import Fraction, Positive, PositiveInt

SOURCE = '''
from __future__ import annotations
import torch_that_is_not_there
from dataclasses import dataclass
from typing import Callable, ClassVar, Literal, Optional
from collections.abc import Sequence
from segframe.ranges import PositiveInt
import segframe.ranges as ranges
from annotated_types import Ge
from typing import Annotated
from .constants import Mode, LOW

def build(net, *, size: PositiveInt, mode: Mode, low: Annotated[int, Ge(LOW)] = 3, act: Callable[[int], int] = abs,
          scale: ranges.Positive = 1, maybe: "Optional[int]" = None, other: torch_that_is_not_there.Tensor | int = 0):
    ...

def open_ended(a: int, **kwargs): ...

class Parent:
    def __init__(self, width: PositiveInt): ...

    @classmethod
    def wide(cls, width: Literal[8, 16]): ...

    @staticmethod
    def plain(x: bool): ...

class Child(Parent):
    """Takes what its parent takes."""

class Empty: ...

class Foreign(torch_that_is_not_there.Module): ...

@dataclass(frozen=True)
class Record:
    sizes: Sequence[int]
    kind: ClassVar[str] = "a"
    names: tuple[str, ...] = ()

@dataclass
class More(Record):
    extra: bool = False
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "fakepackage"
    folder.mkdir()
    (folder / "__init__.py").write_text("from .parts import build as construct\n")
    (folder / "parts.py").write_text(SOURCE)
    (folder / "constants.py").write_text("from typing import Literal\nMode = Literal['whole', 'slide']\nLOW = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "fakepackage"
    from segframe.config import sources

    for value in vars(sources).values():
        if hasattr(value, "cache_clear"):
            value.cache_clear()


def _check(node):
    return violations({"part": node})


@pytest.mark.parametrize(
    ("node", "fragments"),
    [
        ({"_target_": "parts.build", "size": 0}, ["part.size=0", "an integer >= 1"]),
        ({"_target_": "parts.build", "mode": "wohle"}, ["whole or slide", "did you mean `whole`"]),
        ({"_target_": "construct", "low": 2}, ["part.low=2", ">= 3"]),
        ({"_target_": "parts.build", "scale": -1.0}, ["part.scale=-1.0", "> 0"]),
        ({"_target_": "parts.build", "maybe": "x"}, ["an integer or null"]),
        ({"_target_": "parts.build", "siez": 1}, ["no argument `siez`", "did you mean `size`"]),
        ({"_target_": "parts.build", "_partial_": 3}, ["part._partial_=3", "true or false"]),
        ({"_target_": "parts.Child", "width": 0}, ["part.width=0"]),
        ({"_target_": "parts.Parent.wide", "width": 9}, ["8 or 16"]),
        ({"_target_": "parts.Parent.plain", "x": 1}, ["true or false"]),
        ({"_target_": "parts.Empty", "x": 1}, ["no argument `x`", "nothing"]),
        ({"_target_": "parts.Record", "sizes": [1.5]}, ["a list of integers"]),
        ({"_target_": "parts.Record", "kind": "b"}, ["no argument `kind`"]),
        ({"_target_": "parts.More", "names": [1], "extra": True}, ["a list of texts"]),
        ({"_target_": "parts.bild"}, ["has no `bild`", "did you mean `build`"]),
        ({"_target_": "prats.build"}, ["has no `prats`", "did you mean `parts`"]),
        ({"_target_": "construct", "act": {"_target_": "parts.Empty", "y": 1}}, ["part.act.y"]),
        ({"inner": [{"_target_": "parts.Empty", "y": 1}]}, ["part.inner.0.y"]),
    ],
)
def test_what_the_source_forbids(package, node, fragments):
    (message,) = _check(_in(package, node))
    assert [fragment for fragment in fragments if fragment not in message] == [], message
    assert package not in sys.modules


def _in(package, node):
    if isinstance(node, list):
        return [_in(package, value) for value in node]
    if not isinstance(node, dict):
        return node
    return {key: f"{package}.{value}" if key == "_target_" else _in(package, value) for key, value in node.items()}


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "construct", "size": 1, "mode": "slide", "low": 3, "scale": 2, "maybe": None, "_partial_": True},
        {"_target_": "parts.build", "act": "anything", "other": [1], "size": ABSENT},
        {"_target_": "parts.open_ended", "whatever": 1},
        {"_target_": "parts.Foreign", "whatever": 1},
        {"_target_": "parts.More", "sizes": [1, 2], "names": ["a"], "extra": True},
        {"_target_": "parts.build", "size": {"_target_": "parts.Empty"}},
    ],
)
def test_what_the_source_allows(package, node):
    assert _check(_in(package, node)) == []


def test_other_packages_are_followed_without_importing_them():
    signature = read_signature("torch.optim.AdamW")
    assert signature is not None
    assert {"lr", "betas", "amsgrad"} <= set(signature.parameters)
    assert violations({"o": {"_target_": "torch.optim.AdamW", "amsgrd": True}})[0].count("did you mean `amsgrad`") == 1
    assert read_signature("torch.tanh") is None
    with pytest.raises(LookupError, match="did you mean `AdamW`"):
        read_signature("torch.optim.AdamWW")


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (int, [1, -1], [True, 1.0, "1", None]),
        (float, [1, 1.5, math.inf], [True, "1", None]),
        (bool, [True], [1, "true"]),
        (str, ["a"], [1, None]),
        (Path, ["a/b"], [1]),
        (Positive, [1e-9], [0, -1.0, math.nan]),
        (Fraction, [0, 1], [1.01]),
        (PositiveInt | None, [None, 1], [0]),
        (tuple[int, int], [[1, 2]], [[1], [1, 2, 3], 1]),
        (list[PositiveInt], [[], [1]], [[0], "1"]),
        (dict[str, float], [{"a": 1}], [{"a": "b"}]),
        (Literal["a"] | Positive, ["a", 2.0], ["b", 0]),
        (Annotated[list[int], Len(1, 2)], [[1]], [[], [1, 2, 3]]),
        (Any, [1, "a", None, [1]], []),
    ],
    ids=str,
)
def test_strictness(annotation, good, bad):
    assert [value for value in good if not fits(value, annotation)] == []
    assert [value for value in bad if fits(value, annotation)] == []


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Literal[8, 16], "8 or 16"),
        (PositiveInt | None, "an integer >= 1 or null"),
        (Fraction, "a number >= 0 and <= 1"),
        (tuple[int, int], "a list of 2: an integer, an integer"),
        (list[Positive], "a list of numbers > 0 and finite"),
        (dict[str, int], "a mapping of texts to integers"),
        (Annotated[int, Interval(ge=1, le=7)], "an integer >= 1 and <= 7"),
        (list[Literal["a", "b"]] | Literal["auto"], "a list of a or b or auto"),
    ],
    ids=str,
)
def test_what_is_allowed_in_words(annotation, words):
    assert describe(annotation) == words
