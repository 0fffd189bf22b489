"""The certificate: every strategy computes what one process computes, and one that does not is seen to fail."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from segframe.certificate.run import RankError, certify
from tests.parity import breakages

ROOT = Path(__file__).parents[2]
NOT_HERE = {
    "single": "what all others are compared with",
    "auto": "a word for single or ddp",
    "xla": "needs torch_xla, which is in an environment of its own: make test-xla",
}
STRATEGIES = sorted({file.stem for file in (ROOT / "conf/strategy").glob("*.yaml")} - NOT_HERE.keys())
GRIDS = {
    "hybrid": (
        "strategy.data=2 strategy.spatial=2",
        "strategy.data=2 strategy.stages=2",
        "strategy.fsdp=2 strategy.spatial=2",
    )
}
"""The axes of strategies that split nothing by themselves."""

SMALL_ENCODER = "model.encoder=tu-test_resnet"  # both kinds of ResNet's blocks, in 0.3 million parameters
NETS = {
    "pspnet": f"model=pspnet {SMALL_ENCODER}",
    "unet": f"model=unet {SMALL_ENCODER}",
    "deeplabv3plus": f"model=deeplabv3plus {SMALL_ENCODER}",
    # With the small encoder rounding moves its fp32 gradients further than one process's distance from fp64 tells.
    "deeplabv3plus resnet18": "model=deeplabv3plus model.encoder=resnet18",
    "segnet_basic": "model=segnet_basic model.width=16",
    "segformer": "model=segformer",
    # All of its maps are large and it has 29 million parameters, so few and small images.
    "segnet": "model=segnet dataset.crop_size=[64,32] data.batch_size=4 dataset.train.num_images=8 "
    "dataset.val.num_images=3 dataset.val.height=64 dataset.val.width=48",
}
# Enough for two epochs of two steps, on two ranks with two micro-batches of two images.
SMALL = ("data.batch_size=8", "dataset.train.num_images=16")
OF_THREE = ("data.batch_size=12", "dataset.train.num_images=24")
LEARNT = {"loss", "gradients", "parameters", "EMA", "optimizer state", "val/loss"}
COUNTED = {"confusion matrix", "val/loss", "val/miou"}


@pytest.fixture(scope="session")
def references(tmp_path_factory):
    """Runs in one process are made once for all strategies."""
    return tmp_path_factory.mktemp("references")


@pytest.fixture
def verify(alone, monkeypatch, references, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(*words, ranks=2, prepare=None, precisions=("fp64",), **options):
        report = certify([*SMALL, *words], ranks, prepare, precisions, reference_dir=references, **options)
        report.show()
        return report

    return run


def failed(report):
    return {row.name for row in report.failed_rows}


def missing(report):
    return {guard.name for guard in report.failed_guards}


def all_cases():
    """Every strategy with every grid that it takes, and how many ranks that is."""
    for strategy in STRATEGIES:
        for axes in GRIDS.get(strategy, ("",)):
            sizes = [int(word.partition("=")[2]) for word in axes.split()]
            yield pytest.param(f"strategy={strategy} {axes}", math.prod(sizes or [2]), id=f"{strategy} {axes}".strip())


@pytest.mark.xdist_group("certificate pspnet")
@pytest.mark.parametrize(("words", "ranks"), list(all_cases()))
def test_a_strategy_computes_what_one_process_computes(verify, words, ranks):
    precisions = ("fp64", "fp32") if ranks == 2 else ("fp64",)
    report = verify(*words.split(), *NETS["pspnet"].split(), ranks=ranks, precisions=precisions)
    assert report.passed, report.verdict()
    assert {row.name for row in report.rows if row.passed} >= LEARNT | COUNTED | {"BatchNorm buffers"}


@pytest.mark.xdist_group("certificate nets")
@pytest.mark.parametrize("net", ["unet", "deeplabv3plus resnet18", "segformer"])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_strategies_that_split_the_batch_take_every_net(verify, strategy, net):
    report = verify(f"strategy={strategy}", *NETS[net].split(), precisions=("fp64", "fp32"))
    assert report.passed, report.verdict()


@pytest.mark.xdist_group("certificate segnet")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "spatial", "model_sharded"])
def test_segnet_in_full(verify, strategy):
    report = verify(f"strategy={strategy}", *NETS["segnet"].split(), num_steps=2)
    assert report.passed, report.verdict()


@pytest.mark.xdist_group("certificate nets")
@pytest.mark.parametrize(
    ("net", "words", "ranks"),
    [
        ("unet", "strategy=spatial", 4),
        ("unet", "strategy=model_sharded strategy.schedule=gpipe", 3),
        ("segnet_basic", "strategy=spatial", 3),
        ("segnet_basic", "strategy=model_sharded", 4),
        ("deeplabv3plus", "strategy=spatial", 3),
        ("deeplabv3plus", "strategy=hybrid strategy.data=2 strategy.spatial=2", 4),
    ],
)
def test_rows_and_stages_of_other_nets(verify, net, words, ranks):
    report = verify(*words.split(), *NETS[net].split(), ranks=ranks)
    assert report.passed, report.verdict()


@pytest.mark.xdist_group("certificate nets")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_parts_of_a_batch_on_three_ranks(verify, strategy):
    report = verify(f"strategy={strategy}", *NETS["pspnet"].split(), *OF_THREE, ranks=3)
    assert report.passed, report.verdict()


@pytest.mark.xdist_group("certificate broken")
@pytest.mark.parametrize("loss", ["dice", "ohem", "ce_lovasz"])  # none of them takes class weights
def test_losses_that_no_mask_normalises(verify, loss):
    report = verify("strategy=ddp", "model=tiny", f"loss={loss}", "trainer.gradient_clip_val=0.02")
    assert report.passed, report.verdict()


@pytest.mark.xdist_group("certificate broken")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
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


@pytest.mark.xdist_group("certificate pspnet")
@pytest.mark.parametrize(
    ("words", "ranks"),
    [("strategy=ddp", 2), ("strategy=fsdp", 2), ("strategy=hybrid strategy.data=2 strategy.stages=2", 4)],
)
def test_it_fails_where_batch_norm_is_each_ranks_own(verify, words, ranks):
    report = verify(*words.split(), *NETS["pspnet"].split(), "strategy.sync_batchnorm=false", ranks=ranks)
    assert failed(report) >= {"loss", "gradients", "parameters", "BatchNorm buffers", "EMA"}
    assert "differs first at step 1" in report.verdict()
    assert "running_" in next(row.note for row in report.rows if row.name == "BatchNorm buffers")


@pytest.mark.xdist_group("certificate pspnet")
def test_it_fails_where_ranks_drop_for_themselves(verify):
    report = verify("strategy=ddp", *NETS["pspnet"].split(), prepare=breakages.own_random_numbers)
    assert failed(report) >= {"loss", "gradients", "BatchNorm buffers"}


@pytest.mark.xdist_group("certificate pspnet")
@pytest.mark.parametrize(
    ("prepare", "words", "ranks", "rows"),
    [
        (breakages.batch_norm_of_own_rows, "strategy=spatial", 2, {"loss", "gradients", "BatchNorm buffers"}),
        (breakages.replicated_gradients_counted_by_every_rank, "strategy=spatial", 2, {"gradients", "parameters"}),
        (breakages.no_halo, "strategy=spatial", 2, {"loss", "gradients", "BatchNorm buffers"}),
        (breakages.rows_counted_twice, "strategy=spatial", 2, {"confusion matrix"}),
        (
            breakages.stages_normalise_alone,
            "strategy=hybrid strategy.data=2 strategy.stages=2",
            4,
            {"loss", "gradients", "BatchNorm buffers"},
        ),
        (breakages.a_stage_clips_alone, "strategy=model_sharded", 2, {"parameters", "EMA"}),
        (breakages.a_stage_kept_by_all, "strategy=model_sharded", 2, set()),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_it_fails_where_rows_or_stages_are_broken(verify, prepare, words, ranks, rows):
    report = verify(*words.split(), *NETS["pspnet"].split(), prepare=prepare, ranks=ranks)
    assert not report.passed
    assert failed(report) >= rows
    if prepare is breakages.replicated_gradients_counted_by_every_rank:
        assert report.rows[0].note == "differs first at step 2 of 3"  # the first forward pass is right
    if prepare is breakages.rows_counted_twice:
        assert missing(report) == {"every image counts once"}
    if prepare is breakages.a_stage_kept_by_all:
        assert missing(report) == {"parameters are where they belong"}


@pytest.mark.xdist_group("certificate broken")
def test_the_message_of_a_rank_ends_it(verify):
    with pytest.raises(RankError, match=r"(?s)^rank 1 of the run with 2 ranks: .*the disk of rank 1 is gone") as caught:
        verify("strategy=ddp", "model=tiny", prepare=breakages.one_rank_fails)
    assert caught.value.code == 1
    assert not caught.value.is_refusal


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
