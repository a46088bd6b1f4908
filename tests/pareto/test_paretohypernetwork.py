"""ParetoHyperNetwork: a network gives the weights. Its sizes are those of AvivNavon/pareto-hypernetworks,
models.py: three layers of 100 units, one linear layer for each tensor."""

import pytest
import torch
from tests.pareto.bowls import Bowls
from torch import nn

from equipoise.pareto import ParetoHyperNetwork, Training
from equipoise.pareto.conditioned import Hypernetwork, trained
from equipoise.problems import DigitsPairs


def test_it_follows_the_preference_over_the_pareto_set():
    """argmin sum_i p_i |x - e_i|^2 = p."""
    front = ParetoHyperNetwork(points=5).trace(Bowls(), budget=1500, learning_rate=0.03)
    assert front.weights is not None
    assert torch.allclose(torch.stack([one["x"] for one in front.solutions]), front.weights, atol=0.05)


def test_its_sizes_are_those_of_the_paper_s_code():
    """PHNHyper: m x 100, 100 x 100, 100 x 100 and, for n weights, 100 n + n."""
    model = nn.Linear(7, 3)
    found = Hypernetwork(("a", "b"), trained(model))
    size = (2 * 100 + 100) + 2 * (100 * 100 + 100) + 101 * (7 * 3 + 3)
    assert sum(parameter.numel() for parameter in found.parameters()) == size


def test_the_biases_start_at_the_model():
    model = nn.Linear(4, 2)
    found = Hypernetwork(("a", "b"), trained(model))
    with torch.no_grad():
        for weight in found.weights:
            weight.zero_()
    assert all(torch.equal(found.at([0.3, 0.7])[n], t) for n, t in model.state_dict().items())


@pytest.mark.parametrize("rate", [0.03, 0.1, 0.3])
def test_the_rates_that_suit_a_problem_suit_the_network(rate):
    """The grid of `digits-pairs`, on which every other solver is tuned, too."""
    problem = DigitsPairs(pairs=2560, judged=256)
    problem.prepare()
    landscape = Training(problem, split="validation")
    before = landscape.evaluate(landscape.model(0))
    front = ParetoHyperNetwork(points=3).trace(landscape, budget=400, learning_rate=rate, gaps=False)
    assert rate in problem.learning_rates
    assert bool((front.points.mean(0) < 0.8 * before).all())


def test_an_optimizer_may_be_given():
    rates = []

    def adam(parameters, rate):
        rates.append(rate)
        return torch.optim.Adam(parameters, rate)

    front = ParetoHyperNetwork(points=5, optimizer=adam).trace(Bowls(), budget=1500, learning_rate=1e-3)
    assert front.weights is not None
    assert torch.allclose(torch.stack([one["x"] for one in front.solutions]), front.weights, atol=0.05)
    assert rates == [1e-3]


def test_hidden_must_be_positive():
    with pytest.raises(ValueError, match="hidden is 0"):
        ParetoHyperNetwork(hidden=0)
