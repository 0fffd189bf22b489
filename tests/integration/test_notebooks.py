"""The notebooks: kept without outputs, define nothing, and run from top to bottom in a clone of the repository."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PICTURES = {"01_quickstart": 5, "02_analyse_runs": 4, "03_parallel_strategies": 5, "04_errors": 4}
"""How many each draws at least."""

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_TROUBLE = re.compile(r"\w*Warning\b|Traceback")


def read(path):
    return nbformat.read(path, as_version=4)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_all_notebooks_are_looked_at():
    assert [path.stem for path in NOTEBOOKS] == sorted(PICTURES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_kept_without_outputs_and_as_nbformat_writes_it(path):
    notebook = read(path)
    nbformat.validate(notebook)
    for cell in code_of(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None
    assert all(cell.metadata == {} for cell in notebook.cells)
    assert notebook.metadata.kernelspec.name == "python3"
    # An editor that numbers cells anew, or writes other spaces, would make every change a change of the whole file.
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z-]*", name) for name in ids)
    assert nbformat.writes(notebook) == path.read_text(encoding="utf-8").rstrip("\n")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_defines_nothing_and_tells_what_one_sees(path):
    notebook = read(path)
    for cell in code_of(notebook):
        tree = ast.parse(TransformerManager().transform_cell(cell.source))
        found = [node for node in ast.walk(tree) if isinstance(node, _DEFINITIONS)]
        assert not found, f"{cell.id} defines what the package should have"
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[0] == "markdown"
    assert kinds.count("markdown") >= kinds.count("code") - 3


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder with the repository's layout, so that nothing is written into the repository itself."""
    for name in ("notebooks", "kernels/python3"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    # The environment of the tests, and no kernel that the user has installed under the same name.
    words = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = {"argv": words, "display_name": "Python 3", "language": "python"}
    (tmp_path / "kernels/python3/kernel.json").write_text(json.dumps(kernel))
    # Else pytest's own folders and the user's settings of IPython are the kernel's.
    variables = {"IPYTHONDIR": tmp_path / "ipython", "JUPYTER_RUNTIME_DIR": tmp_path / "runtime", "OMP_NUM_THREADS": 1}
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    return tmp_path


# In a process of its own, since the client leaves sockets to the garbage collector, of which pytest complains.
EXECUTE = """
import sys
import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

source, place, kernels, socket, out = sys.argv[1:]
specs = KernelSpecManager(kernel_dirs=[kernels], ensure_native_kernel=False)
manager = AsyncKernelManager(kernel_spec_manager=specs, kernel_name="python3", transport="ipc", ip=socket)
notebook = nbformat.read(source, as_version=4)
resources = {"metadata": {"path": place}}
NotebookClient(notebook, km=manager, timeout=600, startup_timeout=120, resources=resources).execute()
nbformat.write(notebook, out)
"""


def executed(path, clone):
    # Sockets of the file system, which nobody else can reach; their names have at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="segframe-", dir="/tmp") as sockets:
        places = [clone / "notebooks", clone / "kernels", f"{sockets}/kernel", clone / "executed.ipynb"]
        words = [sys.executable, "-c", EXECUTE, path, *places]
        done = subprocess.run(words, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return read(clone / "executed.ipynb")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom(path, clone):
    cells = code_of(executed(path, clone))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [(cell.id, output) for cell in cells for output in cell.outputs]
    said = [f"{name}: {output.text}" for name, output in outputs if output.output_type == "stream"]
    assert not [text for text in said if _TROUBLE.search(text)]
    # Notebooks show it in red.
    assert not [output.text for _, output in outputs if output.output_type == "stream" and output.name == "stderr"]
    pictures = [name for name, output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= PICTURES[path.stem], pictures
    assert {item.name for item in (clone / "notebooks").iterdir()} <= {"outputs"}
