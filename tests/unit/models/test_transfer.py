import pytest
import torch

from segframe.models.tiny import Tiny
from segframe.models.transfer import load_matching


def test_loads_what_fits_and_lists_the_rest():
    torch.manual_seed(0)
    source, target = Tiny(num_classes=7), Tiny(num_classes=3)
    weights = source.state_dict()
    del weights["stem.0.bias"]
    weights["extra.weight"] = torch.zeros(2)
    own_head = target.head.classifier.weight.clone()
    assert not torch.equal(target.stem[0].weight, source.stem[0].weight)

    transfer = load_matching(target, weights)

    assert torch.equal(target.stem[0].weight, source.stem[0].weight)
    assert torch.equal(target.head.classifier.weight, own_head)
    assert transfer.loaded == ("stem.0.weight", "body.0.weight", "body.0.bias")
    assert transfer.mismatched == (
        ("head.classifier.weight", (7, 32, 3, 3), (3, 32, 3, 3)),
        ("head.classifier.bias", (7,), (3,)),
    )
    assert transfer.missing == ("stem.0.bias",)
    assert transfer.unexpected == ("extra.weight",)
    assert "shape differs: head.classifier.bias is (7,), needs (3,)" in str(transfer)


def test_nothing_that_fits_is_an_error():
    with pytest.raises(ValueError, match=r"None of the 1 tensors .* fits Tiny.*same model"):
        load_matching(Tiny(num_classes=3), {"other": torch.zeros(1)})
