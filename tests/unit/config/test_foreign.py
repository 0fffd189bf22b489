import pytest

from segframe.config.compose import compose
from segframe.config.foreign import instead_of
from segframe.config.options import ConfigError


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("dp", "strategy=ddp trainer.devices=N"),
        ("DP", "strategy=ddp trainer.devices=N"),
        ("data-parallel", "strategy=ddp trainer.devices=N"),
        ("ddp_spawn", "starts its processes itself"),
        ("ddp_notebook", "!segframe train strategy=ddp"),
        ("fsdp2", "strategy=fsdp splits parameters"),
        ("deepspeed", "strategy.cpu_offload=true"),
        ("deepspeed_stage_3_offload", "strategy.cpu_offload=true"),
        ("zero3", "ZeRO's stage 3"),
        ("zero_1", "ZeRO's stage 3"),
        ("horovod", "strategy=ddp averages gradients"),
        ("hsdp", "strategy.data=N strategy.fsdp=M"),
        ("pipeline-parallel", "strategy=model_sharded splits the layers"),
        ("tp", "no layer's channels are split here"),
        ("context_parallel", "strategy=spatial splits the rows"),
    ],
)
def test_names_of_other_frameworks_lead_to_what_does_their_work(name, told):
    assert told in instead_of("strategy", name)


@pytest.mark.parametrize(("group", "name"), [("strategy", "ddpp"), ("strategy", "zebra"), ("model", "dp")])
def test_other_names_are_none_of_theirs(group, name):
    assert instead_of(group, name) is None


def test_the_command_line_tells_it_once_and_lists_what_there_is():
    with pytest.raises(ConfigError) as caught:
        compose(["strategy=zero2"])
    told = str(caught.value)
    assert told.startswith("strategy=zero2: there is no such option. strategy=fsdp splits")
    assert told.count("strategy=fsdp") == 1
    assert told.endswith("ddp, fsdp, hybrid, model_sharded, single, spatial, xla")
