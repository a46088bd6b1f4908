import math

import pytest
import torch

from equipoise.scalarization import RevisedUncertainty
from equipoise.testing.ask import weigh


def test_value_and_weights_of_the_hand_example():
    losses = torch.tensor([1.0, 4.0], dtype=torch.float64)
    assert RevisedUncertainty()(losses).item() == pytest.approx(2.5 + 2 * math.log(2))
    assert weigh(RevisedUncertainty(), losses).tolist() == [0.5, 0.5]


def test_value_is_that_of_public_implementations():
    """AutomaticWeightedLoss, in many repositories: 0.5 / sigma^2 * loss + log(1 + sigma^2)."""
    rule = RevisedUncertainty(objectives=["0", "1"]).double()
    sigma = torch.tensor([0.7, 3.0], dtype=torch.float64)
    losses = torch.tensor([2.0, 0.3], dtype=torch.float64)
    with torch.no_grad():
        rule.log_variances.copy_(2 * sigma.log())
    expected = (0.5 / sigma**2 * losses + torch.log(1 + sigma**2)).sum()
    torch.testing.assert_close(rule(losses).detach(), expected)


def test_the_price_stays_positive_where_that_of_uncertainty_weighting_does_not():
    """Liebel and Koerner 2018: log(1 + sigma^2) > 0 for every sigma."""
    for initial in (-20.0, -1.0, 0.0, 5.0):
        assert RevisedUncertainty(initial=initial)(torch.zeros(2)).item() > 0


def test_at_rest_the_variances_solve_the_quadratic():
    """d/dv (f / 2v + log(1 + v)) = 0: 2 v^2 - f v - f = 0."""
    rule, losses = RevisedUncertainty().double(), torch.tensor([0.3, 5.0], dtype=torch.float64)
    rule(losses)
    optimizer = torch.optim.SGD(rule.parameters(), lr=0.5)
    for _ in range(500):
        optimizer.zero_grad()
        rule(losses).backward()
        optimizer.step()
    expected = (losses + (losses**2 + 8 * losses).sqrt()) / 4
    torch.testing.assert_close(rule.log_variances.detach().double().exp(), expected, rtol=1e-4, atol=0)


def test_a_late_objective_needs_to_be_named_at_the_start():
    rule = RevisedUncertainty()
    rule(torch.ones(1), names=("a",))
    with pytest.raises(ValueError, match=r"RevisedUncertainty\(objectives="):
        rule(torch.ones(2), names=("a", "b"))
