"""Rules that cut small eigenvalues off, and CAGrad, beside TorchJD on matrices of every rank."""

import pytest
import torch
import torchjd.aggregation as peers
from tests.external.draws import apart, jacobians
from torch import Tensor

from equipoise import aggregation
from equipoise.core.gramian import cosines

COUNT = 1000


def between_cutoffs(matrix: Tensor) -> bool:
    """Whether an eigenvalue lies below our cut-off (m float32 roundings of the largest) and is real."""
    values = torch.linalg.eigvalsh(matrix) / float(torch.linalg.eigvalsh(matrix)[-1])
    ours = len(matrix) * torch.finfo(torch.float32).eps
    return bool(((values > 1e-14) & (values <= ours)).any())


@pytest.mark.parametrize(
    ("name", "deciding", "allowed"),
    [("ConFIG", cosines, 1e-6), ("AlignedMTL", lambda gramian: gramian, 1e-9)],
)
def test_any_rank_but_for_the_cutoff(name, deciding, allowed):
    """TorchJD cuts at float64 rounding where we cut at float32's: those few matrices, at most 5, differ.

    1e-6 for ConFIG: for exact opposites TorchJD divides what rounding left by its norm.
    """
    left_out = 0
    for rows in jacobians(COUNT):
        gramian = rows @ rows.T
        if between_cutoffs(deciding(gramian)):
            left_out += 1
            continue
        mine = getattr(aggregation, name)()(gramian) @ rows
        assert apart(mine, getattr(peers, name)()(rows), rows) <= allowed
    assert left_out <= 5


def test_cagrad_of_any_rank_is_never_worse():
    """1e-4, what Clarabel's 1e-8 leaves of a weight that hardly matters; the worst gain is the criterion."""
    for rows in jacobians(COUNT, scales=(1.0,)):
        mean, gramian = rows.mean(0), rows @ rows.T
        mine = aggregation.CAGrad(c=0.5, rescale=0)(gramian) @ rows
        theirs = peers.CAGrad(c=0.5, norm_eps=0.0)(rows)
        size = float(mean.norm() * rows.norm(dim=1).max())
        assert float((mine - mean).norm()) <= 0.5 * float(mean.norm()) * (1 + 1e-9)
        assert float((rows @ mine).min()) >= float((rows @ theirs).min()) - 1e-7 * size
        assert apart(mine, theirs, rows) <= 1e-4
