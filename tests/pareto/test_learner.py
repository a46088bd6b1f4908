"""What solvers share that train one model for all preferences."""

import math

import pytest
import torch
from tests.pareto.bowls import Bowls, BoxedBowls
from torch import nn

from equipoise.pareto import LowRankFront, ParetoHyperNetwork, ParetoManifold, Training
from equipoise.pareto.learner import disorder, within
from equipoise.pareto.renewal import BATCHES, renew, running
from equipoise.problems import DigitsPairs
from equipoise.scalarization import Tchebycheff

SOLVERS = (ParetoManifold, ParetoHyperNetwork, LowRankFront)
WISHES = torch.tensor([[0.2, 0.8], [0.9, 0.1], [0.5, 0.5]])


def test_losses_that_fall_as_their_preference_grows_are_in_order():
    assert float(disorder(torch.tensor([[3.0, 1.0], [1.0, 4.0], [2.0, 2.0]]), WISHES)) == 0.0


def test_what_is_out_of_order_counts_by_its_excess():
    """In the order .9, .5, .2 the first losses are 4, 1, 2: an excess of 3, then none.

    Dimitriadis et al. 2023: log((e^3 + e^0) / 2), and nothing for the second objective."""
    losses = torch.tensor([[2.0, 1.0], [4.0, 5.0], [1.0, 3.0]])
    assert float(disorder(losses, WISHES)) == pytest.approx(math.log((math.exp(3) + 1) / 2))


def test_the_order_in_which_preferences_are_drawn_does_not_count():
    losses = torch.rand(3, 2, generator=torch.Generator().manual_seed(0))
    order = [2, 0, 1]
    assert float(disorder(losses[order], WISHES[order])) == pytest.approx(float(disorder(losses, WISHES)))


def test_of_three_objectives_a_perfect_front_may_be_out_of_order():
    """On it f_1 = (1 - p_1)^2 + p_2^2 + p_3^2: .72 at (.4, .6, 0), but less at (.36, .32, .32)."""
    wishes = torch.tensor([[0.4, 0.6, 0.0], [0.36, 0.32, 0.32]])
    losses = ((wishes[:, None] - torch.eye(3)) ** 2).sum(-1)
    assert float(losses[0, 0]) == pytest.approx(0.72)
    assert float(disorder(losses, wishes)) > 0


def test_one_preference_has_no_order():
    assert float(disorder(torch.tensor([[3.0, 1.0]]), WISHES[:1])) == 0.0


def test_what_is_out_of_order_is_pulled_together():
    """d/dx log((e^x + 1) / 2) = 1/2 at x = 0+: half the gradient of the excess to each side."""
    losses = torch.tensor([[1.0, 0.0], [1.0 + 1e-4, 0.0], [2.0, 0.0]], requires_grad=True)
    disorder(losses, torch.tensor([[0.2, 0.8], [0.9, 0.1], [0.1, 0.9]])).backward()
    assert losses.grad is not None
    assert losses.grad[:, 0].tolist() == pytest.approx([-0.5, 0.5, 0.0], abs=1e-3)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("budget", [7, 12])
def test_a_budget_is_kept(solver, budget):
    front = solver(points=3).trace(Bowls(), budget=budget, learning_rate=0.01)
    assert budget - solver().window < front.record["gradients"] <= budget
    assert front.record["solver"] == solver.__name__
    assert len(front.record["gaps"]) == len(front) == 3


@pytest.mark.parametrize("solver", [ParetoManifold, LowRankFront])
def test_a_budget_below_one_step_is_refused(solver):
    with pytest.raises(ValueError, match="too small"):
        solver().trace(Bowls(), budget=1, learning_rate=0.1)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_same_seed_gives_the_same_front(solver):
    problem = DigitsPairs(pairs=256, judged=64, width=8)
    problem.prepare()
    fronts = [
        solver(points=3).trace(Training(problem), budget=12, learning_rate=0.01, seed=seed, gaps=False)
        for seed in (1, 1, 2)
    ]
    assert torch.equal(fronts[0].points, fronts[1].points)
    assert not torch.equal(fronts[0].points, fronts[2].points)
    state = problem.model().state_dict()
    assert all(set(solution) == set(state) for solution in fronts[0].solutions)


@pytest.mark.parametrize("solver", SOLVERS)
def test_training_lowers_the_losses_of_a_real_problem(solver):
    problem = DigitsPairs(pairs=1024, judged=256, width=16)
    problem.prepare()
    landscape = Training(problem, split="validation")
    before = solver(points=3).trace(landscape, budget=3, learning_rate=1e-9, gaps=False)
    after = solver(points=3).trace(landscape, budget=240, learning_rate=0.1, gaps=False)
    assert bool((after.points.mean(0) < before.points.mean(0) - 0.1).all())


@pytest.mark.parametrize("solver", SOLVERS)
def test_what_is_fitted_is_what_is_traced(solver):
    one = solver(points=3)
    front = one.trace(Bowls(), budget=30, learning_rate=0.05, seed=4)
    fitted = one.fit(Bowls(), budget=30, learning_rate=0.05, seed=4)
    assert front.weights is not None
    for wish, solution in zip(front.weights, front.solutions, strict=True):
        assert torch.equal(fitted.at(wish)["x"], solution["x"])


@pytest.mark.parametrize("solver", SOLVERS)
def test_one_objective_and_many_are_fine(solver):
    assert len(solver(points=5).trace(Bowls(1), budget=12, learning_rate=0.01)) == 1
    assert len(solver(points=7).trace(Bowls(5), budget=12, learning_rate=0.01)) == 7


@pytest.mark.parametrize("solver", SOLVERS)
def test_solutions_keep_to_the_domain(solver):
    landscape = BoxedBowls()
    front = solver(points=3).trace(landscape, budget=600, learning_rate=0.1)
    assert all(float(one["x"].max()) <= landscape.bound for one in front.solutions)
    assert front.points[:, 0].min() == pytest.approx(0.3**2, abs=0.03)


class Normed(Training):
    """digits-pairs with batch normalisation first in the trunk."""

    def model(self, seed):
        model = super().model(seed)
        model.trunk.insert(1, nn.BatchNorm1d(121))
        return model


@pytest.mark.parametrize("solver", SOLVERS)
def test_running_statistics_are_renewed_for_each_preference(solver):
    """The running mean and variance of a solution are the plain means over batches at its own weights."""
    problem = DigitsPairs(pairs=1024, judged=64, width=8)
    problem.prepare()
    landscape, seed = Normed(problem), 3
    front = solver(points=3).trace(landscape, budget=60, learning_rate=0.1, seed=seed, gaps=False)
    assert front.record["gradients"] <= 60
    for solution in front.solutions:
        model = landscape.model(seed)
        model.load_state_dict(solution)
        landscape.seed(seed)
        seen = []
        model.trunk[1].register_forward_hook(lambda _, given, __, seen=seen: seen.append(given[0].detach()))
        for _ in range(BATCHES):
            landscape.losses(model)
        mean = torch.stack([batch.mean(0) for batch in seen]).mean(0)
        variance = torch.stack([batch.var(0) for batch in seen]).mean(0)
        torch.testing.assert_close(solution["trunk.1.running_mean"], mean)
        torch.testing.assert_close(solution["trunk.1.running_var"], variance)
        assert int(solution["trunk.1.num_batches_tracked"]) == BATCHES


def test_what_keeps_no_statistics_takes_no_batch():
    problem = DigitsPairs(pairs=512, judged=64, width=8)
    problem.prepare()
    landscape = Normed(problem)
    plain, normed = problem.model(), landscape.model(0).train()
    renew(landscape, plain)
    assert (len(running(plain)), len(running(normed))) == (0, 1)
    renew(landscape, normed.eval(), batches=2)
    assert not normed.training
    assert normed.trunk[1].momentum == 0.1


def test_outside_the_domain_no_gradient_leads_farther_out():
    landscape = BoxedBowls()
    x = torch.tensor([2.0, 2.0, 0.5], dtype=torch.float64, requires_grad=True)
    moved = within(landscape, landscape.model(0), {"x": x[:2]})["x"]
    assert moved.tolist() == [landscape.bound] * 2
    (moved * torch.tensor([-1.0, 1.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 0.0]


def test_another_scalarisation_may_be_asked_for():
    """Tchebycheff at (.8, .2) asks for .8 f1 = .2 f2: with f = 2(1 - t)^2, 2t^2 that is t = 2/3."""
    front = ParetoManifold(points=6, scalarization=Tchebycheff(), monotony=0.0).trace(
        Bowls(), budget=4000, learning_rate=0.02
    )
    first, second = front.points[4].tolist()
    assert 0.8 * first == pytest.approx(0.2 * second, abs=0.1)


def test_one_batch_is_the_same_batch_until_it_ends():
    problem = DigitsPairs(pairs=512, judged=64, width=8)
    problem.prepare()
    landscape = Training(problem)
    model = landscape.model(0)
    with landscape.one_batch():
        one, other = landscape.losses(model), landscape.losses(model)
    following = landscape.losses(model)
    assert torch.equal(one["left"], other["left"])
    assert not torch.equal(one["left"], following["left"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"points": 0}, "points is 0"),
        ({"window": 0}, "window is 0"),
        ({"window": 1, "monotony": 1.0}, "set window to 2 or more"),
        ({"monotony": -1.0}, "monotony is -1"),
        ({"concentration": 0.0}, "concentration is 0"),
        ({"concentration": math.nan}, "concentration is nan"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        ParetoManifold(**options)
