"""PCD beside TorchJD's, over a history of steps, without the constant that TorchJD adds under the root."""

import pytest
import torch
import torchjd.aggregation as peers
from tests.external.draws import apart, jacobians

from equipoise.aggregation import PCD
from equipoise.core.step import Step

COUNT = 1000


@pytest.mark.parametrize("tau", [0.0, 0.02, 0.5, 1.0])
def test_equals_torchjd_step_after_step(tau):
    """Matrices of one shape follow each other, so that averages of another scale are met."""
    ours = {m: PCD(tau=tau, beta=0.9) for m in range(2, 9)}
    theirs = {m: peers.PCD(tau=tau, beta=0.9, eps=0.0) for m in range(2, 9)}
    gaps = []
    for rows in jacobians(COUNT, full_rank=True, scales=(1e-3, 1.0, 1e3)):
        m = len(rows)
        names = tuple(map(str, range(m)))
        gaps.append(apart(ours[m](rows @ rows.T, names=names) @ rows, theirs[m](rows), rows))
        ones = torch.ones(m, dtype=torch.float64)
        ours[m].update(Step(names, ones, ones, rows @ rows.T))
    assert max(gaps) <= 1e-6, f"largest {max(gaps):.2g}, median {sorted(gaps)[COUNT // 2]:.2g}"


@pytest.mark.parametrize("tau", [0.02, 0.5])
def test_of_any_rank_it_mostly_equals_torchjd(tau):
    """Where a Gramian is singular, cut-offs decide whether the constraints exclude each other."""
    gaps = sorted(
        apart(PCD(tau=tau)(rows @ rows.T) @ rows, peers.PCD(tau=tau, eps=0.0)(rows), rows)
        for rows in jacobians(COUNT)
    )
    assert gaps[int(0.95 * COUNT)] <= 1e-6


def test_the_constant_under_the_root_makes_torchjd_depend_on_scale():
    rows = torch.tensor([[2.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    small = 1e-5 * rows
    wanted = PCD(tau=0.5)(rows @ rows.T)
    torch.testing.assert_close(PCD(tau=0.5)(small @ small.T), wanted)
    assert float((peers.PCDWeighting(tau=0.5)(small @ small.T) - wanted).abs().max()) > 0.1
