"""What every solver with a finite set of solutions keeps: its budget, its seed, problems of any shape."""

import pytest
import torch
from torch import nn

from equipoise import pareto
from equipoise.pareto import Landscape, Training, Walker
from equipoise.pareto.landscapes import Point, named
from equipoise.problems import problem
from equipoise.scalarization import Linear

KINDS = ("EPO", "HypervolumeGradient", "MOOSVGD", "OMDFront", "ParetoMTL", "PMGDA", "PreferenceSweep")


@pytest.fixture(scope="module")
def digits():
    found = problem("digits-pairs", pairs=256, judged=64, width=8)
    found.prepare()
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["zdt2", "dtlz2", "re21"])
def test_an_analytic_front_is_traced_within_the_budget_and_again_the_same(kind, name):
    solver, landscape, budget = getattr(pareto, kind)(points=3), named(name), 97
    first = solver.trace(landscape, budget=budget, learning_rate=0.05, seed=3)
    again = getattr(pareto, kind)(points=3).trace(landscape, budget=budget, learning_rate=0.05, seed=3)
    assert torch.equal(first.points, again.points)
    assert first.record["gradients"] <= budget
    assert first.record["gradients"] > budget / 2
    assert len(first) == len(first.solutions) == len(first.record["gaps"]) == 3
    if name == "dtlz2":  # on the others a few steps may end at the same ends from any start
        other = solver.trace(landscape, budget=budget, learning_rate=0.05, seed=4)
        assert not torch.equal(first.points, other.points)
    for solution, point in zip(first.solutions, first.points, strict=True):
        assert bool(((solution["x"] >= landscape.lower) & (solution["x"] <= landscape.upper)).all())
        torch.testing.assert_close(landscape.values(solution["x"]), point)


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_problem_is_traced_and_learned(kind, digits):
    landscape = Training(digits)
    solver = getattr(pareto, kind)(points=3)
    front = solver.trace(landscape, budget=120, learning_rate=0.01, seed=1)
    again = solver.trace(landscape, budget=120, learning_rate=0.01, seed=1)
    torch.testing.assert_close(front.points, again.points)
    assert front.record["gradients"] <= 120
    assert front.names == ("left", "right")
    model = landscape.model(0)
    model.load_state_dict(front.solutions[0])
    torch.testing.assert_close(landscape.evaluate(model), front.points[0])
    best = front.points.amin(0)
    assert bool((best < landscape.evaluate(landscape.model(1))).any())


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_too_small_is_refused(kind):
    with pytest.raises(ValueError, match="a budget of 2 gradients is too small"):
        getattr(pareto, kind)(points=3).trace(named("zdt1"), budget=2, learning_rate=0.1)
    with pytest.raises(ValueError, match="points is 0"):
        getattr(pareto, kind)(points=0)
    with pytest.raises(ValueError, match="learning_rate is 0"):
        getattr(pareto, kind)(points=3).trace(named("zdt1"), budget=100, learning_rate=0)


class Bowl(Landscape):
    """One objective; or one that is nowhere finite."""

    names = ("only",)

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def model(self, seed: int) -> nn.Module:
        return Point(torch.ones(2, dtype=torch.float64))

    def losses(self, model):
        return {"only": self.factor * model.x.square().sum()}

    def evaluate(self, model):
        return torch.stack([self.losses(model)["only"].detach()])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "MOOSVGD"])
def test_one_objective_is_lowered(kind):
    front = getattr(pareto, kind)(points=1).trace(Bowl(), budget=40, learning_rate=0.1, gaps=False)
    assert float(front.points[0, 0]) < 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_that_is_not_finite_is_named(kind):
    with pytest.raises(ValueError, match="only"):
        getattr(pareto, kind)(points=1).trace(Bowl(float("nan")), budget=40, learning_rate=0.1, gaps=False)


def test_a_step_by_a_scalarisation_is_what_the_engine_takes(digits):
    """Both routes of `Walker.step` lead to one place."""
    landscape = Training(digits)
    landscape.seed(0)
    walker = Walker(landscape, landscape.model(0), 0.1)
    step = walker.step(Linear(), [0.3, 0.7])
    landscape.seed(0)
    model = landscape.model(0)
    losses = landscape.losses(model)
    (0.3 * losses["left"] + 0.7 * losses["right"]).backward()
    landscape.optimizer(model.parameters(), 0.1).step()
    for name, wanted in model.state_dict().items():
        torch.testing.assert_close(walker.model.state_dict()[name], wanted)
    assert walker.count == 1
    assert step.preference.tolist() == pytest.approx([0.3, 0.7])
    assert step.losses.tolist() == pytest.approx([loss.item() for loss in losses.values()])
