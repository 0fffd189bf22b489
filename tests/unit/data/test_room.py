"""What can be written: to a disk what it has free, to memory what machine and container can spare."""

from __future__ import annotations

import shutil

import pytest

from segframe.data.room import free_bytes, spare_memory

MIB = 2**20


@pytest.fixture
def machine(tmp_path):
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:       16384 kB\nMemAvailable:   10240 kB\nHugePages_Total:       0\n")
    return path


def container(folder, limit, version):
    names = {1: ("limit_in_bytes", "usage_in_bytes"), 2: ("max", "current")}[version]
    prefix = {1: "total_", 2: ""}[version]
    folder = folder / "memory" if version == 1 else folder
    folder.mkdir(exist_ok=True)
    (folder / f"memory.{names[0]}").write_text(f"{limit}\n")
    (folder / f"memory.{names[1]}").write_text(f"{6 * MIB}\n")
    kinds = f"anon {MIB}\n{prefix}active_file {3 * MIB}\n{prefix}inactive_file {2 * MIB}\nfile {5 * MIB}\n"
    (folder / "memory.stat").write_text(kinds)


def test_a_disk_has_what_is_free(tmp_path):
    assert 0 < free_bytes(tmp_path) <= shutil.disk_usage(tmp_path).free * 2


def test_a_machine_spares_what_is_available(machine, tmp_path):
    assert spare_memory(machine, tmp_path / "none") == 10 * MIB


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_spares_what_its_limit_leaves_and_files_only_keep(machine, tmp_path, version):
    container(tmp_path, 8 * MIB, version)
    assert spare_memory(machine, tmp_path) == 7 * MIB


@pytest.mark.parametrize(("version", "limit"), [(1, 2**63 - 4096), (2, "max")])
def test_a_container_without_a_limit_spares_what_the_machine_does(machine, tmp_path, version, limit):
    container(tmp_path, limit, version)
    assert spare_memory(machine, tmp_path) == 10 * MIB


def test_another_system_is_not_limited_by_what_it_does_not_tell(tmp_path):
    assert spare_memory(tmp_path / "none", tmp_path) == 2**63
