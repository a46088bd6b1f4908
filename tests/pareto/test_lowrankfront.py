"""LowRankFront: one network and m updates of low rank."""

import pytest
import torch
from tests.pareto.bowls import Bowls

from equipoise.pareto import LowRankFront, Training
from equipoise.pareto.conditioned import LowRank
from equipoise.problems import DigitsPairs


def test_where_the_pareto_set_is_flat_it_is_the_pareto_set():
    """argmin sum_i p_i |x - e_i|^2 = p, as theta_0 + sum_i p_i u_i with full updates of a vector."""
    front = LowRankFront(points=6, window=1, monotony=0.0).trace(Bowls(3), budget=2000, learning_rate=0.1)
    assert front.weights is not None
    assert torch.allclose(torch.stack([one["x"] for one in front.solutions]), front.weights, atol=0.01)


def digits() -> Training:
    problem = DigitsPairs(pairs=512, judged=64, width=12)
    problem.prepare()
    return Training(problem)


def test_once_frozen_the_main_network_stands_still():
    landscape = digits()
    solver = LowRankFront(freeze=0.0)
    found = solver.fit(landscape, budget=12, learning_rate=0.1)
    start = dict(landscape.model(0).named_parameters())
    assert isinstance(found, LowRank)
    for tensor, first in zip(found.main, start.values(), strict=True):
        assert torch.equal(tensor, first)
    assert any(bool(left.any()) for left in found.left)


def test_freezing_begins_at_its_share_of_the_training():
    """With freeze = 0.5 the main network after 4 steps is that after the first 2 of them."""
    half = LowRankFront(freeze=0.5, window=2).fit(digits(), budget=8, learning_rate=0.1)
    whole = LowRankFront(freeze=1.0, window=2).fit(digits(), budget=4, learning_rate=0.1)
    assert isinstance(half, LowRank)
    assert isinstance(whole, LowRank)
    assert all(torch.equal(one, other) for one, other in zip(half.main, whole.main, strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(half.left, whole.left, strict=True))


def test_orthogonality_keeps_the_updates_apart():
    overlaps = []
    for weight in (0.0, 1.0):
        found = LowRankFront(orthogonality=weight).fit(digits(), budget=240, learning_rate=0.1)
        assert isinstance(found, LowRank)
        overlaps.append(float(found.overlap().detach()))
    assert overlaps[1] < overlaps[0] / 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"freeze": 1.5}, "freeze is 1.5"),
        ({"orthogonality": -1.0}, "orthogonality is -1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        LowRankFront(**options)
