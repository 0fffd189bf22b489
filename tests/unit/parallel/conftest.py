"""Ranks of a gloo process group in forked processes."""

from __future__ import annotations

import multiprocessing
import os
import traceback
import warnings
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

fork = multiprocessing.get_context("fork")


def one_rank(rank, size, folder, function, arguments):
    warnings.simplefilter("error")
    torch.set_num_threads(1)  # a fork has none of its parent's threads
    torch.manual_seed(0)
    try:
        store = dist.FileStore(str(folder / "store"), size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=20))
        torch.save(function(rank, size, *arguments), folder / f"result-{rank}")
        dist.barrier()
        dist.destroy_process_group()
    except BaseException:
        (folder / f"error-{rank}").write_text(traceback.format_exc())
        os._exit(1)
    os._exit(0)


@pytest.fixture
def on_ranks(tmp_path):
    """Returns what ``function(rank, size, *arguments)`` gives on each rank: ``on_ranks(2, function, *arguments)``."""

    def run(size, function, *arguments):
        folder = tmp_path / f"ranks-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        ranks = [fork.Process(target=one_rank, args=(r, size, folder, function, arguments)) for r in range(size)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(60)
            process.kill()
            process.join()
        errors = [path.read_text() for path in sorted(folder.glob("error-*"))]
        assert [process.exitcode for process in ranks] == [0] * size, "\n".join(errors)
        return [torch.load(folder / f"result-{rank}", weights_only=False) for rank in range(size)]

    return run
