"""``segframe doctor``: what is installed here, which devices there are, and what does not fit."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from segframe.config.options import ConfigError, shipped_dir

_NEEDED = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "segmentation-models-pytorch",
    "timm",
    "hydra-core",
    "omegaconf",
    "pydantic",
    "opencv-python-headless",
    "numpy",
)
_EXTRAS = {"tensorboard": "tensorboard", "wandb": "wandb"}
_PROBE_TIMEOUT_S = 120
_GIB = 2**30

# Runs in a process of its own: a broken torch may hang or crash instead of raising.
_PROBE = """
import json
found = {"errors": {}, "gpus": [], "bf16": "", "cuda": None}
for name in ("torch", "torchvision", "pytorch_lightning", "segmentation_models_pytorch"):
    try:
        __import__(name)
    except Exception as error:
        found["errors"][name] = f"{type(error).__name__}: {error}"
if "torch" not in found["errors"]:
    import torch
    found["cuda"] = torch.version.cuda or torch.version.hip
    for i in range(torch.cuda.device_count()):
        p = torch.cuda.get_device_properties(i)
        found["gpus"].append([p.name, p.total_memory, p.major])
    found["mps"] = torch.backends.mps.is_available()
    cpu = getattr(torch.backends.cpu, "get_cpu_capability", lambda: "")()
    found["bf16"] = cpu
print("PROBE" + json.dumps(found))
"""


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: What was looked at.
        text: What was found.
        remedy: What to do about it; empty where all is well.
    """

    name: str
    text: str
    remedy: str = ""


def report() -> int:
    """Prints everything, then the remedies; returns 1 if something is broken, else 0."""
    probe = run_probe()
    sections = {
        "versions": _versions(),
        "devices": _devices(probe),
        "fit": _fit(probe),
        "folders": _folders(),
    }
    width = max(len(finding.name) for findings in sections.values() for finding in findings)
    for title, findings in sections.items():
        print(title)
        for finding in findings:
            print(f"  {'!' if finding.remedy else ' '} {finding.name:<{width}}  {finding.text}")
    remedies = [f for findings in sections.values() for f in findings if f.remedy]
    print("\nall fits" if not remedies else "\nwhat to do:")
    for finding in remedies:
        print(f"  {finding.name}: {finding.remedy}")
    return 1 if remedies else 0


def torchvision_verdict(torch_version: str | None, torchvision_requires: Sequence[str] | None) -> Finding:
    """Judges by their metadata whether torch and torchvision were built for each other.

    Args:
        torch_version: The installed torch, such as ``2.11.0+cpu``; None if there is none.
        torchvision_requires: What the installed torchvision requires, such as ``torch==2.11.0`` or
            ``torch>=2.14.0``; None if there is no torchvision.
    """
    name = "torch and torchvision"
    if torch_version is None:
        return Finding(name, "torch is not installed", 'pip install "torch>=2.11" "torchvision>=0.26"')
    base = torch_version.partition("+")[0]
    if torchvision_requires is None:
        return Finding(name, "torchvision is not installed", f'pip install "torch=={base}" torchvision')
    needs = [need for need in map(Requirement, torchvision_requires) if need.name == "torch" and need.specifier]
    if not needs:
        return Finding(name, "torchvision does not say which torch it needs")
    if all(need.specifier.contains(torch_version, prereleases=True) for need in needs):
        return Finding(name, f"torchvision needs torch {needs[0].specifier}, and {torch_version} is installed")
    remedy = f'pip install "torch{needs[0].specifier}", or both anew: pip install --upgrade torch torchvision'
    return Finding(name, f"torchvision needs torch {needs[0].specifier}, but {torch_version} is installed", remedy)


def import_findings(errors: Mapping[str, str], torch_version: str | None) -> list[Finding]:
    """Judges what could not be imported.

    Args:
        errors: The error's text by module.
        torch_version: The installed torch; None if there is none.
    """
    found = []
    for module, text in errors.items():
        remedy = f"pip install --force-reinstall {module.replace('_', '-')}"
        if module == "torchvision" and "torch" not in errors:
            # torch 2.13.0 is published as a CPU-only file beside which no torchvision loads.
            base = (torch_version or "").partition("+")[0]
            other = '"torch!=2.13.0"' if base == "2.13.0" else "torch"
            remedy = f"take both from one source: pip install --force-reinstall {other} torchvision"
        found.append(Finding(f"import {module}", text.splitlines()[0] if text else "fails", remedy))
    return found


def run_probe(code: str = _PROBE, timeout_s: float = _PROBE_TIMEOUT_S) -> dict[str, Any]:
    """Imports torch and its companions in another process and returns what they say about the devices.

    Args:
        code: What to run; prints ``PROBE`` and JSON.
        timeout_s: How long to wait, seconds.
    """
    nothing: dict[str, Any] = {"errors": {}, "gpus": [], "bf16": "", "cuda": None, "mps": False}
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return nothing | {"errors": {"torch": f"did not finish importing within {timeout_s:.0f} s"}}
    answers = [line[5:] for line in done.stdout.splitlines() if line.startswith("PROBE")]
    if not answers:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return nothing | {"errors": {"torch": f"the import ended with exit code {done.returncode} {last}".strip()}}
    return nothing | dict(json.loads(answers[-1]))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _versions() -> list[Finding]:
    found = [
        Finding("python", f"{platform.python_version()} ({sys.executable})"),
        Finding("system", platform.platform()),
    ]
    for package in _NEEDED:
        version = _version(package)
        found.append(Finding(package, version or "missing", "" if version else f"pip install {package}"))
    for extra, package in _EXTRAS.items():
        absent = f'not installed; logger={extra} needs it: pip install "segframe[{extra}]"'
        found.append(Finding(package, _version(package) or absent))
    return found


def _devices(probe: Mapping[str, Any]) -> list[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    capability = f", {probe['bf16']}" if probe["bf16"] else ""
    found = [Finding("CPU", f"{cores} cores for this process of {os.cpu_count()}{capability}"), _memory()]
    for index, (name, size, major) in enumerate(probe["gpus"]):
        bf16 = "bf16" if major >= 8 else "no bf16: use trainer.precision=16-mixed"
        found.append(Finding(f"GPU {index}", f"{name}, {size / _GIB:.0f} GiB, {bf16}"))
    if probe["mps"]:
        found.append(Finding("GPU", "Apple (mps)"))
    if not probe["gpus"] and not probe["mps"]:
        built = f"torch is built for CUDA/ROCm {probe['cuda']}" if probe["cuda"] else "torch is built without CUDA"
        found.append(Finding("GPU", f"none that torch can use ({built})"))
    return found


def _memory() -> Finding:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return Finding("memory", "unknown")
    limits = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
    texts = [file.read_text().strip() for file in limits if file.is_file()]
    allowed = min([total, *(int(text) for text in texts if text.isdigit())])
    return Finding("memory", f"{allowed / _GIB:.1f} GiB for this process of {total / _GIB:.1f} GiB")


def _fit(probe: Mapping[str, Any]) -> list[Finding]:
    try:
        requires = metadata.requires("torchvision") or []
    except metadata.PackageNotFoundError:
        requires = None
    torch_version = _version("torch")
    verdict = torchvision_verdict(torch_version, requires)
    return [verdict, *import_findings(probe["errors"], torch_version)]


def _folders() -> list[Finding]:
    try:
        conf = Finding("conf", str(shipped_dir()))
    except ConfigError as error:
        conf = Finding("conf", "missing", str(error))
    free = shutil.disk_usage(Path.cwd()).free / _GIB
    little = "free some space: checkpoints need several GiB" if free < 1 else ""
    found = [conf, Finding("disk", f"{free:.1f} GiB free in {Path.cwd()}", little)]
    shared = Path("/dev/shm")
    if shared.is_dir():
        size = shutil.disk_usage(shared).total / _GIB
        small = "" if size >= 0.25 else "use data.num_workers=0, or start the container with --shm-size=1g"
        found.append(Finding("/dev/shm", f"{size:.2f} GiB for worker processes", small))
    return found
