import numpy as np
import pytest
import torch

from segframe.metrics import scores as by_torch
from segframe.runs.scores import METRICS, class_iou


@pytest.mark.parametrize("absent", ["drop", "zero", "one"])
def test_metrics_are_those_of_an_evaluation(absent):
    draw = np.random.default_rng(0)
    matrices = draw.integers(0, 1000, (50, 6, 6)) * (draw.random((50, 6, 1)) < 0.7) * (draw.random((50, 1, 6)) < 0.7)
    matrices[0] = 0
    sums = [x.astype(float) for x in (matrices.diagonal(axis1=1, axis2=2), matrices.sum(2), matrices.sum(1))]
    np.testing.assert_allclose(
        class_iou(*sums, absent), by_torch.iou(torch.from_numpy(matrices), absent).numpy(), rtol=1e-14
    )
    expected = [by_torch.summary(torch.from_numpy(matrix), absent) for matrix in matrices]
    assert METRICS.keys() == expected[0].keys()
    for name, metric in METRICS.items():
        np.testing.assert_allclose(metric(*sums, absent), [of_one[name] for of_one in expected], rtol=1e-13)
