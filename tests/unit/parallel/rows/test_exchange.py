"""The rows that each rank owns become the rows that each rank needs, and gradients go the same way back."""

import pytest
import torch

from segframe.parallel.rows.exchange import fetch, memory_format_of, plan_exchange
from segframe.parallel.rows.group import Rows

HEIGHT = 7
NEEDS = {
    "a halo of one row": lambda first, stop: (first - 1, stop + 1),
    "a halo over every rank": lambda first, stop: (first - 9, stop + 9),
    "everything": lambda first, stop: (0, HEIGHT),
    "rows of others alone": lambda first, stop: (HEIGHT - stop, HEIGHT - first),
    "nothing on the first rank": lambda first, stop: (first, stop + 2) if first else (0, 0),
    "the rows above the map": lambda first, stop: (-3, 0),
    "what it has": lambda first, stop: (first, stop),
}


def fetched(rank, size):
    """Compares every need with a slice of the whole map, and gradients with those of the slices of all ranks."""
    rows = Rows(rank, size)
    have = rows.spans(HEIGHT)
    for layout in (torch.contiguous_format, torch.channels_last):
        whole = torch.randn(2, 3, HEIGHT, 4, dtype=torch.float64).to(memory_format=layout)
        own = whole[:, :, slice(*have[rank])].clone(memory_format=layout).requires_grad_()
        for name, rule in NEEDS.items():
            need = [rule(*span) for span in have]
            padded = torch.nn.functional.pad(whole, (0, 0, 20, 20), value=5.0).requires_grad_()
            cuts = [padded[:, :, first + 20 : stop + 20] for first, stop in need]
            got = fetch(own, have, lambda r, need=need: need[r], rows, fill=5.0)
            assert torch.equal(got, cuts[rank]), name
            weights = [torch.randn(cut.shape, generator=torch.Generator().manual_seed(r)).double()
                       for r, cut in enumerate(cuts)]  # fmt: skip
            (dx,) = torch.autograd.grad((got * weights[rank]).sum(), own)
            (expected,) = torch.autograd.grad(sum((c * w).sum() for c, w in zip(cuts, weights, strict=True)), padded)
            expected = expected[:, :, 20:-20][:, :, slice(*have[rank])]
            assert torch.allclose(dx, expected, rtol=0, atol=1e-14), name
            assert dx.shape == own.shape
    return True


@pytest.mark.parametrize("size", [2, 4])
def test_fetch_is_a_slice_of_the_whole_map(on_ranks, size):
    assert on_ranks(size, fetched) == [True] * size


def test_only_needed_rows_are_sent():
    rows = Rows(1, 4)
    plan = plan_exchange(rows.spans(8), [(first - 1, stop) for first, stop in rows.spans(8)], rows)
    assert plan.incoming == ((0, (1, 2)),)
    assert plan.outgoing == ((2, (3, 4)),)


def test_nothing_is_sent_for_tensors_without_data():
    rows = Rows(0, 3)
    x = torch.empty(1, 2, 2, 5, device="meta")
    assert fetch(x, rows.spans(6), lambda r: (0, 6), rows).shape == (1, 2, 6, 5)


@pytest.mark.parametrize("height", [4, 5, 6, 7, 9, 101])
def test_the_ranks_own_every_row_once(height):
    spans = Rows(0, 4).spans(height)
    assert [row for first, stop in spans for row in range(first, stop)] == list(range(height))
    assert all(Rows(rank, 4).own(height) == span for rank, span in enumerate(spans))


def test_too_few_rows_are_refused_with_a_remedy():
    with pytest.raises(ValueError, match=r"conv2d makes a map of 3 rows, and 4 ranks .* larger crops .* fewer ranks"):
        Rows(0, 4).check(3, "conv2d")


def test_the_order_of_memory_of_a_map_of_one_pixel_is_torchs():
    first, last = (torch.empty(2, 8, 1, 1).to(memory_format=m) for m in (torch.contiguous_format, torch.channels_last))
    last = last.as_strided(last.shape, (8, 1, 8, 8))
    for x in (first, last, torch.empty(2, 8, 1, 3), torch.empty(2, 8, 3, 1).to(memory_format=torch.channels_last)):
        larger = torch.nn.functional.interpolate(x, size=(4, 4))
        assert larger.is_contiguous(memory_format=memory_format_of(x)), x.stride()
    assert {memory_format_of(first), memory_format_of(last)} == {torch.contiguous_format, torch.channels_last}
