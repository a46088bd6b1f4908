"""Krum, MultiKrum and TrimmedMean against TorchJD's."""

import pytest
import torch
import torchjd.aggregation as peers
from tests.external.draws import apart, jacobians
from torch import Tensor

from equipoise.aggregation import Krum, MultiKrum, TrimmedMean


def squared_as_theirs(rows: Tensor) -> Tensor:  # (m, k) -> (m, m)
    """A Gramian whose squared distances are the distances of the rows.

    TorchJD's scores sum distances, the paper's and ours their squares. Square roots of Euclidean distances
    are Euclidean distances again (Schoenberg 1938), so that such a Gramian exists.
    """
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    return (distances[:1] + distances[:, :1] - distances) / 2


@pytest.mark.parametrize("byzantine", [0, 1, 2])
def test_krum_equals_torchjd_on_its_distances(byzantine):
    seen = 0
    for rows in jacobians(1000, full_rank=True):
        if len(rows) - byzantine - 2 > 1:  # with one neighbour two always tie
            seen += 1
            weights = Krum(byzantine=byzantine)(squared_as_theirs(rows))
            assert apart(weights @ rows, peers.Krum(byzantine, 1)(rows), rows) <= 1e-12
    assert seen > 500 - 150 * byzantine


@pytest.mark.parametrize("selected", [2, 3, 4])
def test_multikrum_equals_torchjd_on_its_distances(selected):
    for rows in jacobians(1000, full_rank=True):
        if len(rows) > 4:
            weights = MultiKrum(byzantine=1, selected=selected)(squared_as_theirs(rows))
            assert apart(weights @ rows, peers.Krum(1, selected)(rows), rows) <= 1e-12


@pytest.mark.parametrize("count", [0, 1, 2])
def test_trimmed_mean_equals_torchjd(count):
    for rows in jacobians(1000):
        if len(rows) > 2 * count:
            assert (
                apart(TrimmedMean(beta=count / len(rows))(rows), peers.TrimmedMean(count)(rows), rows)
                <= 1e-12
            )
