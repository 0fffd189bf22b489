"""strategy=xla where there is no torch_xla."""

from __future__ import annotations

import importlib.util

import pytest

from segframe.parallel.xla import XLA

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch_xla") is not None, reason="with torch_xla, tests/xla says more: make test-xla"
)


def test_without_torch_xla_it_says_how_to_install_it():
    with pytest.raises(ValueError, match=r"needs torch_xla, which is not installed.*make test-xla"):
        XLA()


@pytest.mark.parametrize("accelerator", ["cpu", "gpu"])
def test_other_devices_are_refused(accelerator):
    with pytest.raises(ValueError, match=f"trainer.accelerator={accelerator} asks for others"):
        XLA(accelerator=accelerator)
