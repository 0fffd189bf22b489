from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from torch.nn import functional as F

from segframe.config.compose import compose
from segframe.contracts import LossTerms
from segframe.parallel.rows.losses import check_loss

OPTIONS = sorted(file.stem for file in (Path(__file__).parents[4] / "conf/loss").glob("*.yaml"))
OF_WHOLE_IMAGES = {"lovasz", "ce_lovasz", "ohem"}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("num_ranks", [2, 5])
def test_losses_that_select_pixels_are_refused(name, num_ranks):
    config = compose([f"loss={name}", "model=tiny", "dataset=synthetic"])
    loss = instantiate(config.loss, _convert_="all")
    if name not in OF_WHOLE_IMAGES:
        check_loss(loss, config.dataset.num_classes, num_ranks)
        return
    with pytest.raises(ValueError, match=r"looks at whole images .* loss=cross_entropy"):
        check_loss(loss, config.dataset.num_classes, num_ranks)


def test_a_loss_of_ones_own_is_found_out():
    def mean_over_the_map(logits, target):
        return LossTerms.ratio(F.cross_entropy(logits, target, ignore_index=255), torch.ones(()))

    with pytest.raises(ValueError, match="function looks at whole images"):
        check_loss(mean_over_the_map, 4, 2)
