from __future__ import annotations

import json

import pytest

from segframe.config.options import ConfigError
from segframe.planning import batch_parts, check_batch, check_folder, num_ranks, plan


def values_of(
    devices=1, ranks=None, nodes=1, accelerator="cpu", batch=8, parts=1, target="segframe.parallel.single.Single"
):
    strategy = {"_target_": target} | ({} if ranks is None else {"ranks": ranks})
    trainer = {"devices": devices, "num_nodes": nodes, "accelerator": accelerator, "accumulate_grad_batches": parts}
    return {"trainer": trainer, "strategy": strategy, "data": {"batch_size": batch}}


@pytest.mark.parametrize(
    ("values", "processes"),
    [
        (values_of(devices=1), 1),
        (values_of(devices=3), 3),
        (values_of(devices="auto"), 1),
        (values_of(devices="auto", ranks=1), 1),
        (values_of(devices=4, ranks=4), 4),
    ],
)
def test_the_cpu_takes_as_many_processes_as_are_asked_for(values, processes):
    assert plan(values) == processes
    assert num_ranks(values) == processes


def gpus(monkeypatch, count):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("devices", "accelerator", "there", "processes"),
    [("auto", "gpu", 4, 4), ("auto", "auto", 4, 4), ("auto", "auto", 0, 1), (2, "auto", 0, 2), ([1, 3], "cuda", 4, 2)],
)
def test_gpus_are_counted_where_they_are_asked_for(monkeypatch, devices, accelerator, there, processes):
    gpus(monkeypatch, there)
    assert plan(values_of(devices=devices, accelerator=accelerator)) == processes


def test_one_device_of_many_is_enough_for_single(monkeypatch):
    gpus(monkeypatch, 4)
    assert plan(values_of(devices="auto", ranks=1, accelerator="gpu")) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            values_of(devices=2, ranks=1),
            r"strategy=single runs on one device and trainer.devices=2 asks for 2; use strat",
        ),
        (
            values_of(devices=[0, 1, 2], ranks=2, accelerator="gpu"),
            r"runs on 2 devices and trainer.devices=\[0,1,2\] asks for 3; use .*=2",
        ),
        (values_of(devices=3, accelerator="gpu"), r"asks for 3 GPUs and 1 is there; use trainer.devices=1, or"),
        (values_of(devices=2, nodes=3), r"torchrun --nnodes=3 --nproc-per-node=2 --rdzv-backend=c10d .*=HOST:29500"),
    ],
)
def test_what_is_not_there_is_refused_with_what_works(monkeypatch, values, message):
    gpus(monkeypatch, 1)
    with pytest.raises(ConfigError, match=message):
        plan(values)


@pytest.mark.parametrize(
    ("devices", "nodes", "message"),
    [
        ("auto", 1, None),
        (1, 1, None),
        (2, 2, None),
        ([0, 1], 1, None),
        (4, 1, "asks for 4 processes a node and the launcher has started 2"),
        (2, 3, "trainer.num_nodes=3 and the launcher has started processes on 2"),
    ],
)
def test_a_launcher_decides_and_another_number_is_an_error(monkeypatch, devices, nodes, message):
    for name, value in (("RANK", 3), ("WORLD_SIZE", 4), ("LOCAL_RANK", 1), ("LOCAL_WORLD_SIZE", 2), ("GROUP_RANK", 1)):
        monkeypatch.setenv(name, str(value))
    gpus(monkeypatch, 2)
    values = values_of(devices=devices, nodes=nodes, accelerator="gpu")
    if message is None:
        assert (plan(values), num_ranks(values)) == (1, 4)
    else:
        with pytest.raises(ConfigError, match=message):
            plan(values)
    with pytest.raises(ConfigError, match="runs on 1 device and the launcher has started 4 processes"):
        plan(values_of(ranks=1))


@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
@pytest.mark.parametrize("launcher", [False, True])
def test_the_cpu_is_asked_for_nothing_that_gpus_have(monkeypatch, accelerator, launcher):
    gpus(monkeypatch, 0)
    if launcher:
        for name, value in (("RANK", 0), ("WORLD_SIZE", 2), ("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 2)):
            monkeypatch.setenv(name, str(value))
    with pytest.raises(ConfigError, match=r"trainer.devices=\[0,1\] lists GPUs .* use trainer.devices=2\."):
        plan(values_of(devices=[0, 1], accelerator=accelerator))
    values = values_of(devices=2, accelerator=accelerator)
    values["strategy"]["cpu_offload"] = True
    with pytest.raises(ConfigError, match=r"strategy.cpu_offload=true .* this run is on the CPU"):
        plan(values)


def test_the_batch_divides_into_ranks_and_parts():
    check_batch(values_of(batch=12, parts=3), 2)
    with pytest.raises(ConfigError, match=r"3 rank\(s\) x trainer.accumulate_grad_batches=1 .* data.batch_size=6\."):
        check_batch(values_of(batch=8), 3)
    with pytest.raises(ConfigError, match=r"data.batch_size=4\."):
        check_batch(values_of(batch=2), 4)


def test_a_folder_with_checkpoints_is_not_begun_again(tmp_path):
    values = {"run": {"dir": str(tmp_path)}, "resume": None, "optimizer": {"lr": 1}}
    check_folder(values)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(ConfigError, match="holds a run with checkpoints; go on with it by resume="):
        check_folder(values)
    (tmp_path / "config.yaml").write_text(json.dumps({"optimizer": {"lr": 2}}))
    with pytest.raises(ConfigError, match=r"optimizer.lr=1 \(was 2\)"):
        check_folder(values | {"resume": str(tmp_path)})


HYBRID = {"data": 2, "fsdp": 1, "stages": 1, "spatial": 2}


def with_axes(devices, axes, **options):
    values = values_of(devices=devices, **options)
    values["strategy"] |= axes
    return values


@pytest.mark.parametrize(
    ("devices", "axes", "processes", "parts"),
    [
        (4, {"data": 1}, 4, 1),  # all ranks hold rows of the same images
        (4, {"data": 2}, 4, 2),
        (4, {"data": 2, "spatial": None}, 4, 2),
        (4, HYBRID, 4, 2),
        ("auto", HYBRID, 4, 2),  # it says how many it takes
        (8, HYBRID | {"fsdp": 2}, 8, 4),
    ],
)
def test_a_grid_takes_its_ranks_and_cuts_the_batch_along_some_axes(devices, axes, processes, parts):
    values = with_axes(devices, axes)
    assert plan(values) == processes
    assert batch_parts(values, processes) == parts
    values["data"]["batch_size"] = parts
    check_batch(values, processes)


@pytest.mark.parametrize(
    ("devices", "axes", "message"),
    [
        (3, {"data": 2}, r"strategy.data=2 takes a multiple of 2 ranks and there are 3; set trainer.devices=2"),
        (1, HYBRID, r"strategy.data=2 x strategy.spatial=2 takes 4 ranks and there is 1; set trainer.devices=4"),
        (8, HYBRID, r"takes 4 ranks and there are 8"),
        (2, HYBRID | {"data": 1, "spatial": 1}, r"strategy.spatial are all 1, so that nothing is split; give two"),
    ],
)
def test_a_grid_that_does_not_fit_is_refused(devices, axes, message):
    with pytest.raises(ConfigError, match=message):
        plan(with_axes(devices, axes))


def test_a_grid_that_does_not_fit_a_launcher_is_refused(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match=r"strategy.data=2 takes a multiple of 2"):
        plan(with_axes("auto", {"data": 2}))


def test_the_batch_must_divide_into_the_parts_of_a_grid():
    values = with_axes(4, {"data": 2}, batch=5)
    with pytest.raises(ConfigError, match="divide into 2 rank"):
        check_batch(values, 4)
