import pytest


def test_lines_in_a_log_file(fit, capsys):
    fit()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    for epoch, line in enumerate(said, start=1):
        assert line.startswith(f"epoch {epoch}/2  step {4 * epoch}  train loss ")
        for part in ("val loss", "mIoU 0.", "images/s"):
            assert part in line


@pytest.mark.parametrize("words", [(), ("trainer.max_epochs=-1", "trainer.max_steps=8")], ids=["epochs", "steps"])
def test_a_bar_on_a_terminal(fit, capsys, monkeypatch, words):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    fit(*words, "callbacks.progress_bar.refresh_s=0.000001")
    said = capsys.readouterr().err
    for part in ("step 8/8", "100%", "loss 1.", "mIoU 0.", "images/s", "evaluating", "epoch 2"):
        assert part in said
