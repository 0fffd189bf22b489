"""The doctor tells what does not fit, also where torch is too broken to ask."""

from __future__ import annotations

import pytest

from segframe import doctor
from segframe.doctor import import_findings, run_probe, torchvision_verdict


@pytest.mark.parametrize(
    ("torch", "requires", "remedy"),
    [
        ("2.11.0", ["numpy", "torch==2.11.0"], ""),
        ("2.11.0+cpu", ["torch (==2.11.0)"], ""),
        ("2.15.0", ["torch (>=2.14.0)"], ""),
        ("2.13.0", ["torch==2.12.0"], "torch==2.12.0"),
        ("2.13.0", ["torch (>=2.14.0)"], "torch>=2.14.0"),
        ("2.11.0", ["numpy"], ""),
        ("2.11.0", None, "torch==2.11.0"),
        (None, ["torch==2.11.0"], "torch>="),
    ],
)
def test_torchvision_verdict(torch, requires, remedy):
    found = torchvision_verdict(torch, requires)
    assert remedy in found.remedy
    assert bool(found.remedy) == bool(remedy)


def test_a_torchvision_that_does_not_load_beside_torch():
    (found,) = import_findings({"torchvision": "RuntimeError: operator torchvision::nms does not exist"}, "2.13.0+cpu")
    assert "nms" in found.text
    assert "torch!=2.13.0" in found.remedy
    (found,) = import_findings({"timm": "ImportError: no"}, "2.11.0")
    assert found.remedy.endswith("timm")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os._exit(11)", "exit code 11"),
        ("raise OSError('libc10.so: bad file')", "libc10.so: bad file"),
        ("import time; time.sleep(30)", "within 1 s"),
    ],
)
def test_a_broken_torch_is_reported(code, said):
    assert said in run_probe(code, timeout_s=1)["errors"]["torch"]


@pytest.mark.parametrize("errors", [{}, {"torch": "OSError: bad file"}])
def test_the_report_ends_with_the_verdict(errors, monkeypatch, capsys):
    probe = {"errors": errors, "gpus": [["Card", 8 * 2**30, 7]], "bf16": "AVX2", "cuda": "12.8", "mps": False}
    monkeypatch.setattr(doctor, "run_probe", lambda: probe)
    code = doctor.report()
    printed = capsys.readouterr().out
    assert "8 GiB, no bf16" in printed
    assert code == bool(errors)
    assert ("all fits" in printed.splitlines()[-1]) == (not errors)
    assert ("! import torch" in printed) == bool(errors)
