"""BatchNorm of maps whose rows are split over ranks."""

from __future__ import annotations

from typing import Any, cast

from torch import nn
from torch.distributed import ProcessGroup

from segframe.parallel.batch_norm import SharedBatchNorm, share_batch_norm
from segframe.parallel.changed_class import change_class
from segframe.parallel.rows.replicated import Replicated, without_marks
from segframe.parallel.rows.tensor import RowTensor
from segframe.parallel.sharing import Ranks


def share_over_rows(net: nn.Module, of_rows: ProcessGroup | None, of_images: ProcessGroup | None) -> list[str]:
    """Makes every BatchNorm of a net normalise by all pixels of the ranks' images in training.

    As ``share_batch_norm``, for nets whose maps are partly split into rows and partly the same on all ranks that
    hold rows of an image, such as what is pooled to 1 x 1: these ranks count once.

    Args:
        net: Changed in place.
        of_rows: The ranks whose split maps are normalised together; None for all.
        of_images: The ranks whose maps that are not split are: those with other images; None for all.

    Returns:
        The names of the modules that were changed.

    Raises:
        ValueError: If a module normalises by a batch in a way of its own.
    """
    names = share_batch_norm(net, of_images)
    for name in names:
        module = net.get_submodule(name)
        change_class(module, RowBatchNorm)
        cast(RowBatchNorm, module).ranks_of_rows = Ranks(of_rows)
    return names


class RowBatchNorm(SharedBatchNorm):
    """What ``share_over_rows`` puts before a BatchNorm's own class.

    Attributes:
        ranks_of_rows: The ranks that share the statistics of split maps.
    """

    ranks_of_rows: Ranks

    def forward(self, input: Any) -> Any:  # noqa: A002
        """Normalises split maps by the statistics of all ranks that hold parts of them, others as its parent."""
        if isinstance(input, Replicated):
            # Without its mark: a marked output of a custom function is a view, which can't be changed in place.
            return Replicated.of(super().forward(without_marks(input)), input.rows)
        if not isinstance(input, RowTensor):
            return super().forward(input)
        output, is_done = self._normalized(input.local, self.ranks_of_rows)
        made = input.like(output)
        return made if is_done else self._behind(made)
