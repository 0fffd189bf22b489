import io
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from segframe import interactive
from segframe.config.options import ConfigError
from segframe.interactive import VerbError, train
from segframe.metrics.scores import mean_iou
from segframe.trained import TrainedNet


@pytest.fixture(scope="module")
def folder(small, tmp_path_factory):
    torch.set_num_threads(1)
    return train(*small, f"run.dir={tmp_path_factory.mktemp('trained') / 'run'}", "callbacks.ema.decay=0.9")


@pytest.fixture(scope="module")
def net(folder):
    return TrainedNet(folder)


def test_validation_images_are_predicted_as_the_evaluation_of_the_checkpoint_did(net, folder, capsys):
    samples = list(net.samples())
    interactive.run("evaluate", f"run={folder}")
    counts = torch.zeros(len(net.classes), len(net.classes), dtype=torch.int64)
    for sample in samples:
        counted = sample.truth != net.ignore_index
        np.add.at(counts.numpy(), (sample.truth[counted], sample.prediction[counted]), 1)
    written = [path.read_text() for path in folder.glob("evaluation-best.json")]
    said = capsys.readouterr()
    assert len(written) == 1
    assert f'"val/miou": {mean_iou(counts).item()}' in written[0]
    assert len({sample.name for sample in samples}) == 4
    assert [sample.miou for sample in net.samples(2)] == [sample.miou for sample in samples[:2]]
    assert "val/miou" in said.out
    assert not said.err


def test_progress_is_no_error_of_a_notebook(net, monkeypatch, capsys):
    monkeypatch.setattr("segframe.trained._QUIET_S", 0)
    list(net.samples(1))
    assert "predicting" in capsys.readouterr().err
    cell = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    monkeypatch.setattr(sys, "stdout", cell)
    list(net.samples(1))
    assert "predicting" in cell.getvalue()
    assert not capsys.readouterr().err


def test_an_image_of_any_size_is_predicted_from_memory_and_from_a_file(net, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (50, 71, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "own.png"), image[..., ::-1])
    probabilities = net.probabilities(image)
    assert probabilities.shape == (6, 50, 71)
    np.testing.assert_allclose(probabilities.sum(0), 1, rtol=1e-5)
    for prediction in (net.predict(image), net.predict(tmp_path / "own.png"), net.predict(str(tmp_path / "own.png"))):
        assert (prediction.image == image).all()
        assert (prediction.ids == probabilities.argmax(0)).all()
        assert (prediction.confidence == probabilities.max(0)).all()


def test_an_image_may_be_mirrored_or_read_only(net):
    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    view = image[:, ::-1]
    view.flags.writeable = False
    assert (net.probabilities(view) == net.probabilities(view.copy())).all()
    image.flags.writeable = False
    net.probabilities(image)


def test_words_and_checkpoints_change_what_is_loaded(net, folder):
    image = next(net.samples()).image
    flipped = TrainedNet(folder, words=["task.inference.flip=true"]).probabilities(image)
    mirrored = net.probabilities(np.ascontiguousarray(image[:, ::-1]))[..., ::-1]
    np.testing.assert_allclose(flipped, (net.probabilities(image) + mirrored) / 2, atol=1e-6)
    previous = TrainedNet(folder, folder / "checkpoints" / "previous.ckpt")
    assert (previous.probabilities(image) == TrainedNet(folder, "previous").probabilities(image)).all()
    assert (previous.probabilities(image) != TrainedNet(folder, "last").probabilities(image)).any()


@pytest.mark.parametrize("shape", [(4, 4), (3, 8, 8), (8, 8, 4), (0, 8, 3)])
def test_what_is_no_image_is_refused(net, shape):
    with pytest.raises(ValueError, match="give uint8"):
        net.predict(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="float64"):
        net.predict(np.zeros((8, 8, 3)))


def test_what_is_not_there_is_named(folder, tmp_path):
    with pytest.raises(ConfigError, match="no run folder"):
        TrainedNet(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"other\.ckpt"):
        TrainedNet(folder, tmp_path / "other.ckpt")


def test_training_returns_its_folder_and_goes_on(small, folder, tmp_path, monkeypatch, alone, capsys):
    monkeypatch.chdir(tmp_path)
    own = train(*small, "trainer.max_epochs=1")
    assert own.parts[0] == "outputs"
    assert train(f"resume={own}", "trainer.max_epochs=2") == own
    assert len(list(tmp_path.glob("outputs/*/*"))) == 1
    said = capsys.readouterr()
    assert "epoch 2/2" in said.out
    assert not said.err


def test_what_is_wrong_is_raised(small, folder, capsys):
    with pytest.raises(ConfigError, match=r"did you mean `trainer\.max_epochs`"):
        train("trainer.max_epoch=1")
    with pytest.raises(ConfigError, match=r"--help: train\(\) takes KEY=VALUE"):
        train("--help")
    with pytest.raises(ConfigError, match="did you mean `train`"):
        interactive.run("trian")
    with pytest.raises(ConfigError, match="holds a run"):
        train(*small, f"run.dir={folder}")
    with pytest.raises(VerbError, match="segframe train ended with the exit code 1"):
        train(*small, f"run.dir={folder.parent / 'failed'}", "optimizer.lr=1e30")
    assert "error: " in capsys.readouterr().out


def test_a_typo_is_told_before_torch_is_imported():
    code = (
        "import sys, segframe.interactive as i\ntry: i.train('x=1')\nexcept ValueError: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_what_other_processes_tell_stands_on_standard_output_too():
    code = (
        "import subprocess, sys; from segframe.interactive import _told_on_stdout\n"
        "with _told_on_stdout(): subprocess.run(['sh', '-c', 'echo rank >&2'], check=True)\n"
        "print('after', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("rank\n", "after\n")
