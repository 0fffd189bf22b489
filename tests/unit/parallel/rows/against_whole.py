"""An operation on split rows against the same operation on the whole tensor."""

from __future__ import annotations

import torch
from torch.utils._pytree import tree_leaves

from segframe.parallel.rows import RowTensor

TOLERANCE = {torch.float64: 1e-13, torch.float32: 3e-5, torch.bfloat16: 6e-2}


def own_rows(whole, rows, axis=-2):
    first, stop = rows.own(whole.shape[axis])
    return whole.narrow(axis, first, stop - first)


def part_of(whole, got, rows):
    """Returns what of a whole result a rank has: its rows, or all of what is the same on all ranks."""
    return own_rows(whole, rows, got.axis) if isinstance(got, RowTensor) else whole


def differences(operation, inputs, parameters, rows, tolerance=None):
    """Returns what differs between ``operation(*inputs)`` on split rows and on whole tensors: values and gradients.

    Inputs are split, parameters are the same on all ranks and their gradients are summed over them.
    """
    name, tolerance = str(operation), tolerance or TOLERANCE[inputs[0].dtype]
    whole = [x.detach().clone().requires_grad_(x.is_floating_point()) for x in inputs]
    split = [RowTensor.of(x.detach(), rows) for x in inputs]
    for part in split:
        part.local.requires_grad_(part.is_floating_point())
    plain = [p.detach().clone().requires_grad_() for p in parameters]
    shared = [p.detach().clone().requires_grad_() for p in parameters]
    expected = tree_leaves(operation(*whole, *plain))
    got = tree_leaves(operation(*split, *shared), is_leaf=lambda x: isinstance(x, RowTensor))
    found, losses = [], []
    for i, (want, have) in enumerate(zip(expected, got, strict=True)):
        if have.shape != want.shape or have.dtype != want.dtype:
            return [f"{name}: output {i} is {tuple(have.shape)} {have.dtype}, not {tuple(want.shape)} {want.dtype}"]
        local = have.local if isinstance(have, RowTensor) else have.as_subclass(torch.Tensor)
        found += _far(f"{name}: output {i}", local, part_of(want, have, rows), tolerance)
        if want.requires_grad:
            weights = torch.randn(want.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(i))
            weights = weights.to(want.dtype)
            counted_once = 1 if isinstance(have, RowTensor) else 1 / rows.size
            losses.append(((want * weights).sum(), (local * part_of(weights, have, rows)).sum() * counted_once))
    if not losses:
        return found
    sum(loss for loss, _ in losses).backward()
    sum(loss for _, loss in losses).backward()
    for i, (x, part) in enumerate(zip(whole, split, strict=True)):
        if x.grad is not None:
            found += _far(f"{name}: gradient of input {i}", part.local.grad, own_rows(x.grad, rows), tolerance)
    for i, (p, q) in enumerate(zip(plain, shared, strict=True)):
        torch.distributed.all_reduce(q.grad)
        found += _far(f"{name}: gradient of parameter {i}", q.grad, p.grad, tolerance)
    return found


def _far(name, got, expected, tolerance):
    if got is None or got.shape != expected.shape:
        return [f"{name} is {None if got is None else tuple(got.shape)}, not {tuple(expected.shape)}"]
    same = got == expected  # infinite ones too
    error = torch.where(same, 0.0, got.double() - expected.double()).abs().max().item()
    largest = max(1.0, torch.where(expected.isinf(), 0.0, expected).abs().max().item())
    return [] if error <= tolerance * largest else [f"{name} is off by {error:.1e} of {largest:.1e}"]
