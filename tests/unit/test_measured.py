import json

import pytest

from segframe import measured


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "strategies_cpu.json").write_text(json.dumps({"batch": 8}))
    (tmp_path / "benchmarks" / "cpu.json").write_text("{}")
    (tmp_path / "notebooks").mkdir()
    return tmp_path


@pytest.mark.parametrize("start", [".", "notebooks", "benchmarks"])
def test_measurements_are_found_from_any_folder_of_the_repository(folder, monkeypatch, start):
    monkeypatch.chdir(folder / start)
    assert measured.kept() == ["cpu", "strategies_cpu"]
    assert measured.measurement("strategies_cpu") == {"batch": 8}


def test_what_was_not_measured_is_named(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(FileNotFoundError, match=r"no strategies_gpu\.json; did you mean strategies_cpu\?"):
        measured.measurement("strategies_gpu")
    with pytest.raises(FileNotFoundError, match=r"no xyzzy\.json; there are: cpu, strategies_cpu\."):
        measured.measurement("xyzzy")


def test_without_a_repository_the_remedy_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measured, "__file__", str(tmp_path / "site-packages" / "segframe" / "measured.py"))
    assert measured.kept() == []
    with pytest.raises(FileNotFoundError, match="start from a clone of the repository"):
        measured.measurement("strategies_cpu")
