"""FairGrad and NashMTL beside TorchJD's, where its solvers get there, and what they make of other scales."""

import warnings

import pytest
import torch
import torchjd.aggregation as peers
from tests.external.draws import jacobians
from torch import Tensor

from equipoise import aggregation

COUNT = 1000


def residual(weights: Tensor, gramian: Tensor, alpha: float) -> float:
    """The largest violation of G w = w^(-1 / alpha)."""
    return float(((gramian @ weights) * weights ** (1 / alpha) - 1).abs().max())


def gains(update: Tensor, rows: Tensor) -> float:
    """Mean logarithm of the cosines with the rows: what a bargain makes largest; -inf where one is hurt."""
    cosines = (rows @ update) / rows.norm(dim=1) / update.norm()
    return float(cosines.clamp(min=0).log().mean())


def nash_of_torchjd(rows: Tensor, made: dict[int, peers.NashMTL]) -> Tensor:
    """Its update without a limit on the norm; one problem for each m, reset to its first state."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cvxpy says that the problem is not DPP
        solver = made.setdefault(len(rows), peers.NashMTL(len(rows), max_norm=0.0))
        solver.reset()
        return solver(rows)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 4.0])
def test_fairgrad_equals_torchjd_at_scale_one(alpha):
    """1e-7 of the update: where TorchJD's least squares stop. Ours solves the equation to 1e-10."""
    for rows in jacobians(COUNT // 4, full_rank=True, scales=(1.0,)):
        gramian = rows @ rows.T
        mine = aggregation.FairGrad(alpha=alpha)(gramian)
        theirs = peers.FairGradWeighting(alpha=alpha)(gramian)
        assert residual(mine, gramian, alpha) < 1e-10
        assert float((mine @ rows - theirs @ rows).norm()) <= 1e-7 * float((mine @ rows).norm())


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e-3, 1e3, 1e6, 1e12])
def test_fairgrad_solves_its_equation_at_every_scale(scale):
    """TorchJD's least squares have an absolute end: below scale one they stop where they began."""
    theirs = []
    for rows in jacobians(100, full_rank=True, scales=(scale,)):
        gramian = rows @ rows.T
        assert residual(aggregation.FairGrad()(gramian), gramian, 1.0) < 1e-10
        theirs.append(residual(peers.FairGradWeighting(alpha=1.0)(gramian), gramian, 1.0))
    if scale <= 1e-3:
        assert sorted(theirs)[50] > 1e-3


def test_nash_is_the_bargain_that_torchjd_finds_at_scale_one():
    """1e-6 in the cosine of the two updates, in 95 of 100; elsewhere our product of gains is larger."""
    same, made = 0, {}
    for rows in jacobians(COUNT, full_rank=True, scales=(1.0,)):
        mine = aggregation.NashMTL(max_norm=None)(rows @ rows.T) @ rows
        theirs = nash_of_torchjd(rows, made)
        assert float(mine.square().sum()) == pytest.approx(len(rows), rel=1e-9)
        assert gains(mine, rows) >= gains(theirs, rows) - 1e-9
        same += float(mine @ theirs / mine.norm() / theirs.norm()) > 1 - 1e-6
    assert same >= 0.95 * COUNT


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_nash_does_not_depend_on_scale_and_torchjd_s_does(scale):
    """Its constraints hold the norm of the Gramian twice: most updates are then no bargain."""
    off, made = 0, {}
    for rows in jacobians(70, full_rank=True, scales=(1.0,)):
        plain = aggregation.NashMTL(max_norm=None)(rows @ rows.T) @ rows
        mine = aggregation.NashMTL(max_norm=None)((scale * rows) @ (scale * rows).T) @ (scale * rows)
        torch.testing.assert_close(mine, plain, rtol=1e-8, atol=1e-8)
        theirs = nash_of_torchjd(scale * rows, made)
        off += not gains(theirs, rows) > gains(mine, rows) - 1e-6
    assert off > 35
