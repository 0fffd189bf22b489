import os
import pickle
import resource
import subprocess
import sys

import pytest
import torch

from segframe.checkpoint_io import MARK, CheckpointError, is_intact, read_checkpoint, write_checkpoint

CONTENT = {MARK: {"format": 1}, "state_dict": {"net.w": torch.arange(5000.0)}, "global_step": 3}


def test_round_trip(tmp_path):
    write_checkpoint(CONTENT, tmp_path / "new" / "last.ckpt")
    read = read_checkpoint(tmp_path / "new" / "last.ckpt")
    assert torch.equal(read["state_dict"]["net.w"], CONTENT["state_dict"]["net.w"])
    assert os.listdir(tmp_path / "new") == ["last.ckpt"]


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_a_torn_file_is_refused_and_the_good_one_offered(tmp_path, kept):
    torn, good = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    write_checkpoint(CONTENT, torn)
    write_checkpoint(CONTENT, good)
    content = torn.read_bytes()
    torn.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(CheckpointError, match=r"last\.ckpt is damaged.*previous\.ckpt"):
        read_checkpoint(torn)
    assert not is_intact(torn)
    assert is_intact(good)


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "last.ckpt"
    write_checkpoint(CONTENT, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(100.0, 110.0).numpy().tobytes()) + 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="does not match its checksum"):
        read_checkpoint(path)


def test_a_foreign_file_is_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises(CheckpointError, match=r"not a checkpoint of segframe.*init_from"):
        read_checkpoint(tmp_path / "foreign.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(tmp_path / "text.ckpt")


class Payload:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_file_is_not_run(tmp_path, monkeypatch, legacy):
    monkeypatch.chdir(tmp_path)
    content = {**CONTENT, "payload": Payload()}
    if legacy:
        (tmp_path / "evil.ckpt").write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match="could run code"):
        read_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "executed").exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*last\.ckpt"):
        read_checkpoint(tmp_path / "last.ckpt")


FILL = """
import resource, sys, torch
from pathlib import Path
from segframe.checkpoint_io import write_checkpoint
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
write_checkpoint({"segframe": {}, "state_dict": {"w": torch.zeros(10**6)}}, Path(sys.argv[1]))
"""


def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path):
    path = tmp_path / "last.ckpt"
    write_checkpoint(CONTENT, path)
    done = subprocess.run([sys.executable, "-c", FILL, path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "could not be written" in done.stderr
    assert "MiB free" in done.stderr
    assert is_intact(path)
    assert os.listdir(tmp_path) == ["last.ckpt"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000
