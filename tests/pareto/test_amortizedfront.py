"""AmortizedFront: mixtures of tuned models, found on quadratic surrogates (Li et al. 2024)."""

import pytest
import torch
from tests.pareto.bowls import Bowls, BoxedBowls

from equipoise.pareto import AmortizedFront, Training
from equipoise.problems import DigitsPairs


def test_where_losses_are_quadratic_the_surrogate_is_exact():
    """|x - e_i|^2 is quadratic in the coefficients, and mixtures of the tuned models reach the Pareto set,
    sqrt(f1 / 2) + sqrt(f2 / 2) = 1."""
    front = AmortizedFront(points=7).trace(Bowls(), budget=600, learning_rate=0.1)
    found = front.record["surrogate"]
    assert found["rank"] == found["needed"] == 6
    assert found["error"] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert (front.points / 2).sqrt().sum(1).tolist() == pytest.approx([1.0] * 7, abs=1e-2)
    assert front.points.min(0).values.tolist() == pytest.approx([0.0, 0.0], abs=1e-3)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("budget", [3, 20, 31])
def test_a_budget_is_kept(share, budget):
    front = AmortizedFront(points=3, pretraining=share).trace(Bowls(3), budget=budget, learning_rate=0.01)
    assert 0 < front.record["gradients"] <= budget
    if share:
        assert front.record["gradients"] == budget


def test_a_budget_below_a_step_for_each_objective_is_refused():
    with pytest.raises(ValueError, match="one step for each objective"):
        AmortizedFront().trace(Bowls(3), budget=2, learning_rate=0.1)


def test_as_many_mixtures_are_evaluated_as_asked_for():
    front = AmortizedFront(evaluations=9, refinements=0).trace(Bowls(), budget=20, learning_rate=0.1)
    assert front.record["surrogate"]["evaluated"] == 9


def test_it_is_the_same_again_and_holds_whole_models():
    problem = DigitsPairs(pairs=512, judged=64, width=8)
    problem.prepare()
    fronts = [
        AmortizedFront(points=3, batches=2).trace(
            Training(problem), budget=40, learning_rate=0.1, seed=seed, gaps=False
        )
        for seed in (1, 1, 2)
    ]
    assert torch.equal(fronts[0].points, fronts[1].points)
    assert not torch.equal(fronts[0].points, fronts[2].points)
    assert all(set(one) == set(problem.model().state_dict()) for one in fronts[0].solutions)


def test_solutions_keep_to_the_domain_and_one_objective_is_fine():
    front = AmortizedFront(points=3).trace(BoxedBowls(), budget=200, learning_rate=0.1)
    assert all(float(one["x"].max()) <= BoxedBowls.bound for one in front.solutions)
    assert len(AmortizedFront().trace(Bowls(1), budget=20, learning_rate=0.1)) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"points": 0}, "points is 0"),
        ({"evaluations": 0}, "evaluations is 0"),
        ({"pretraining": 1.0}, "pretraining is 1.0"),
        ({"batches": 0}, "batches is 0"),
        ({"refinements": -1}, "refinements is -1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        AmortizedFront(**options)
