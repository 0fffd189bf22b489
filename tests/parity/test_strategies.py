"""The certificate: every strategy computes what one process computes, and one that does not is seen to fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segframe.certificate.run import RankError, certify
from tests.parity import breakages

ROOT = Path(__file__).parents[2]
STRATEGIES = sorted({file.stem for file in (ROOT / "conf/strategy").glob("*.yaml")} - {"single", "auto"})
MODELS = ("pspnet", "segnet", "unet", "deeplabv3plus", "segformer")
# Enough for two epochs of two steps, on two ranks with two micro-batches of two images.
SMALL = ("data.batch_size=8", "dataset.train.num_images=16")
SMALLER = {"segnet": ("dataset.crop_size=[48,48]",)}  # all of its maps are large
LEARNT = {"loss", "gradients", "parameters", "EMA", "optimizer state", "val/loss"}
COUNTED = {"confusion matrix", "val/loss", "val/miou"}


@pytest.fixture(scope="session")
def references(tmp_path_factory):
    """Runs in one process are made once for all strategies."""
    return tmp_path_factory.mktemp("references")


@pytest.fixture
def verify(alone, monkeypatch, references, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(*words, ranks=2, prepare=None, precisions=("fp64",)):
        report = certify([*SMALL, *words], ranks, prepare, precisions, reference_dir=references)
        report.show()
        return report

    return run


def failed(report):
    return {row.name for row in report.failed_rows}


def missing(report):
    return {guard.name for guard in report.failed_guards}


@pytest.mark.parametrize(
    ("strategy", "model"),
    [
        pytest.param(strategy, model, marks=pytest.mark.xdist_group(f"certificate {model == 'segnet'}"))
        for model in MODELS
        for strategy in STRATEGIES
    ],
)
def test_a_strategy_computes_what_one_process_computes(verify, strategy, model):
    report = verify(f"strategy={strategy}", f"model={model}", *SMALLER.get(model, ()), precisions=("fp64", "fp32"))
    assert report.passed, report.verdict()
    assert {row.name for row in report.rows if row.passed} >= LEARNT | COUNTED | {"BatchNorm buffers"}


@pytest.mark.xdist_group("certificate False")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_on_three_ranks(verify, strategy):
    report = verify(
        f"strategy={strategy}", "model=segformer", "data.batch_size=12", "dataset.train.num_images=24", ranks=3
    )
    assert report.passed, report.verdict()


@pytest.mark.xdist_group("certificate False")
@pytest.mark.parametrize("loss", ["dice", "ohem", "ce_lovasz"])  # none of them takes class weights
def test_losses_that_no_mask_normalises(verify, loss):
    report = verify("strategy=ddp", "model=tiny", f"loss={loss}", "trainer.gradient_clip_val=0.02")
    assert report.passed, report.verdict()


@pytest.mark.xdist_group("certificate False")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_net_of_unusual_structure(verify, strategy, tmp_path):
    (tmp_path / "model").mkdir()
    text = "# odd\n_target_: tests.parity.odd_net.OddNet\nnum_classes: ${dataset.num_classes} # classes\n"
    (tmp_path / "model/odd.yaml").write_text(text)
    report = verify(f"--config-dir={tmp_path}", "model=odd", f"strategy={strategy}")
    assert report.passed, report.verdict()


@pytest.mark.xdist_group("certificate broken")
@pytest.mark.parametrize(
    ("prepare", "words", "rows", "guards"),
    [
        (breakages.mean_of_local_means, "model=tiny", LEARNT, set()),
        (breakages.shifted_training_samples, "model=tiny", LEARNT, {"the same samples"}),
        (breakages.repeated_evaluation_images, "model=tiny", COUNTED, {"every image counts once"}),
        (breakages.no_clipping, "model=tiny", LEARNT, set()),
        (breakages.no_loss, "model=tiny", LEARNT, set()),
        (breakages.another_schedule, "model=tiny", LEARNT, set()),
        (breakages.average_of_rank_0, "model=tiny", COUNTED, set()),
        (breakages.forgetful_checkpoints, "model=tiny", {"optimizer state"}, {"the whole model is in checkpoints"}),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_it_fails_where_a_strategy_is_broken(verify, prepare, words, rows, guards):
    report = verify("strategy=ddp", *words.split(), prepare=prepare)
    assert not report.passed
    # What is learnt may or may not turn over a pixel.
    assert failed(report) - ({"confusion matrix", "val/miou"} if "loss" in rows else set()) == rows
    assert missing(report) == guards


@pytest.mark.xdist_group("certificate broken")
def test_it_fails_where_a_rank_holds_more_than_its_share(verify):
    report = verify("strategy=fsdp", "model=tiny", prepare=breakages.whole_optimizer_state)
    assert missing(report) == {"parameters are where they belong"}
    assert "more of the optimizer's state" in report.verdict()


@pytest.mark.xdist_group("certificate broken")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_it_fails_where_batch_norm_is_each_ranks_own(verify, strategy):
    report = verify(f"strategy={strategy}", "model=segformer", "strategy.sync_batchnorm=false")
    assert failed(report) >= {"loss", "gradients", "parameters", "BatchNorm buffers", "EMA"}
    assert "differs first at step 1" in report.verdict()
    assert "running_" in next(row.note for row in report.rows if row.name == "BatchNorm buffers")


@pytest.mark.xdist_group("certificate broken")
def test_it_fails_where_ranks_drop_for_themselves(verify):
    report = verify("strategy=ddp", "model=segformer", prepare=breakages.own_random_numbers)
    assert failed(report) >= {"loss", "gradients", "BatchNorm buffers"}


@pytest.mark.xdist_group("certificate broken")
def test_the_message_of_a_rank_ends_it(verify):
    with pytest.raises(RankError, match=r"(?s)^rank 1 of the run with 2 ranks: .*the disk of rank 1 is gone") as caught:
        verify("strategy=ddp", "model=tiny", prepare=breakages.one_rank_fails)
    assert caught.value.code == 1


@pytest.mark.xdist_group("certificate broken")
def test_the_command(segframe, monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out = tmp_path / "certificate.json"
    words = (
        "verify",
        "strategy=ddp",
        "model=tiny",
        "trainer.devices=2",
        "verify.precisions=fp64",
        f"out={out}",
        *SMALL,
    )
    code, said, told = segframe(*words)
    assert code == 0
    assert said.splitlines()[0].startswith("strategy=ddp on 2 ranks against one process: Tiny")
    assert "PASS: the strategy computes what one process computes (fp64)." in said
    assert "1 of 2 (one process, fp64)" in told
    content = json.loads(out.read_text())
    assert content["passed"]
    assert content["versions"]["torch"]
    assert "strategy=ddp" in content["words"]
    # No rounding is as small as this.
    code, said, _ = segframe(*words, "verify.fp64=1e-30", "verify.steps=1")
    assert code == 1
    assert "FAIL: the strategy does not compute what one process computes." in said


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        ("model=tiny", "verify needs the strategy"),
        ("strategy=single trainer.devices=1", "verify compares a strategy with strategy=single"),
        ("strategy=ddp trainer.devices=auto", "trainer.devices=auto: verify needs a number of ranks"),
        ("strategy=ddp trainer.num_nodes=2", "give trainer.devices=4"),
        ("strategy=ddp verify.steps=0", "verify.steps=0 is not allowed"),
        ("strategy=ddp verify.precisions=bf16", "'bf16' is not allowed; allowed: fp64, fp32"),
        ("strategy=ddp verify.fp32=big", "verify.fp32=big is not allowed"),
        ("strategy=ddp out=/nowhere/x.json", "there is no folder /nowhere"),
        ("strategy=dpp", "did you mean"),
    ],
)
def test_wrong_words(segframe, words, fragments):
    code, _, told = segframe("verify", *words.split())
    assert code == 2
    assert fragments in told
