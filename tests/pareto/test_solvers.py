"""What every solver with a finite set of solutions keeps: its budget, its seed, problems of any shape."""

import pytest
import torch
from torch import nn

from equipoise import pareto
from equipoise.core.card import cards
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


@pytest.mark.parametrize("kind", ["EPO", "PMGDA", "ParetoMTL", "OMDFront", "PreferenceSweep"])
def test_no_two_of_three_objectives_preferences_are_the_same(kind):
    front = getattr(pareto, kind)(points=15).trace(named("dtlz2"), budget=45, learning_rate=0.01, gaps=False)
    assert len({tuple(row) for row in front.weights.tolist()}) == 15


@pytest.mark.parametrize("name", [name for name, card in cards("pareto").items() if card.shape == "front"])
def test_by_default_all_find_as_many(name):
    """Volume and coverage grow with the number of solutions, so they are compared at the same."""
    assert getattr(pareto, name)().points == 11


class Dropped(Training):
    def model(self, seed):
        model = super().model(seed)
        model.trunk.append(nn.Dropout(0.5))
        return model


@pytest.mark.parametrize("name", ["PreferenceSweep", "ParetoManifold", "EPO"])
def test_dropout_is_the_same_for_a_seed_and_the_generator_is_left_alone(name, digits):
    landscape, solver = Dropped(digits), getattr(pareto, name)(points=3)
    options = {"budget": 30, "learning_rate": 0.1}
    torch.manual_seed(0)
    first = solver.trace(landscape, seed=1, **options)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), drawn)
    again = solver.trace(landscape, seed=1, **options)
    assert torch.equal(first.points, again.points)
    assert first.record["gaps"] == again.record["gaps"]
    assert not torch.equal(first.points, solver.trace(landscape, seed=2, **options).points)


def test_of_one_objective_the_gap_says_nothing_and_is_not_kept():
    landscape = Bowl()
    model = landscape.model(0)
    assert landscape.gap(model) == 1.0
    front = pareto.PreferenceSweep(points=1).trace(landscape, budget=40, learning_rate=0.1)
    assert "gaps" not in front.record


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
