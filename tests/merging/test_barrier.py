"""Barriers of losses in closed form, from functions and from problems; what is said of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from equipoise import Metric, Problem
from equipoise.merging import inspect

ONE = {"w": torch.tensor([1.0])}
WELLS = {"left": {"w": torch.tensor([-1.0])}, "right": {"w": torch.tensor([1.0])}}


def well(state):
    """Two minima, at -1 and 1, and a hill of height 1 between them."""
    return {"well": float((state["w"] ** 2 - 1) ** 2)}


def segments(found):
    return {(s.start, s.end): s for s in found.evaluations.segments}


def test_the_barrier_between_two_wells_is_the_hill():
    found = segments(inspect(WELLS, {"w": torch.tensor([0.5])}, evaluate=well))
    between = found["left", "right"]
    assert between.barrier == pytest.approx(1)
    assert between.alpha == 0.5
    assert between.distance == pytest.approx(2 / 0.5)
    assert between.relative == pytest.approx(1 / 4)
    assert between.alphas[3] == pytest.approx(0.3)
    assert between.curve[3] == pytest.approx((0.4**2 - 1) ** 2)
    # From right (loss 0) to the base (loss 9/16) the chord lies above.
    assert found["right", None].barrier == 0
    assert found["left", None].curve[-1] == pytest.approx(9 / 16)


def test_a_convex_loss_has_no_barrier_and_the_average_may_still_be_worse_than_the_base():
    def far(state):
        return {
            name: float((state["w"] - goal).square().sum()) for name, goal in (("left", -1), ("right", 3))
        }

    found = inspect(WELLS, ONE, evaluate=far)
    assert [s.barrier for s in found.evaluations.segments] == pytest.approx([0, 0, 0])
    assert found.evaluations.average == pytest.approx({"left": 1, "right": 9})
    reading = found.reading()
    assert reading.below
    assert "5" in reading.warnings[0]
    assert "fall below the base" in reading.warnings[0]
    assert "no barrier" in str(found)


def test_objectives_called_after_models_are_judged_at_their_segments():
    def losses(state):
        return {
            "left": float((state["w"] + 1).square()),
            "right": float((state["w"] - 1).square()),
            "third": 50.0,
        }

    found = segments(inspect(WELLS, ONE, evaluate=losses))
    assert found["left", "right"].objectives == ("left", "right")
    assert found["left", None].objectives == ("left",)
    assert found["left", None].curve[0] == 0
    assert found["left", "right"].curve == pytest.approx(found["left", "right"].curve[::-1])
    other = segments(inspect({"left": WELLS["left"], "x": WELLS["right"]}, ONE, evaluate=losses))
    assert other["left", "x"].objectives == ("left", "right", "third")


def test_the_average_above_the_base_is_no_warning():
    found = inspect(WELLS, {"w": torch.tensor([4.0])}, evaluate=well)
    assert found.reading().below is False
    assert "fall below" not in str(found)


def test_a_loss_that_is_not_finite_names_its_place():
    with pytest.raises(ValueError, match=r"the loss of well is not finite at 0\.3 from left to right"):
        inspect(WELLS, ONE, evaluate=lambda s: {"well": float("nan") if -0.5 < s["w"] < -0.3 else 1.0})


def test_objectives_that_change_are_an_error():
    with pytest.raises(ValueError, match=r"losses at left are of \['b'\], at the base of \['a'\]"):
        inspect(WELLS, ONE, evaluate=lambda s: {"b" if s["w"] == -1 else "a": 1.0})


@pytest.mark.parametrize(
    ("options", "words"), [({"points": 2}, "points is 2"), ({"problem": 1}, "both given")]
)
def test_bad_options(options, words):
    with pytest.raises(ValueError, match=words):
        inspect(WELLS, ONE, evaluate=well, **options)


@dataclass
class Shifts(Problem):
    """Two constant goals for the output of a linear model, optionally behind batch normalisation."""

    objectives: ClassVar[tuple[str, ...]] = ("up", "down")
    metrics: ClassVar[Mapping[str, Metric]] = {
        "up": Metric("closeness", "higher"),
        "down": Metric("closeness", "higher"),
    }
    norm: bool = True

    def model(self):
        return nn.Sequential(nn.Linear(2, 3), *([nn.BatchNorm1d(3)] if self.norm else []))

    def batches(self, split, generator):
        draw = torch.Generator().manual_seed({"train": 1, "validation": 2}[split])
        return [torch.randn(16, 2, generator=draw) for _ in range(4)]

    def losses(self, model, batch):
        out = model(batch)
        return {"up": (out - 1).square().mean(), "down": (out + 1).square().mean()}

    def evaluate(self, model, split):
        assert not torch.is_grad_enabled()
        assert not model.training
        return {
            name: -float(self.losses(model, self.batches(split, None)[0])[name]) for name in self.objectives
        }


def tuned(problem):
    """Models with running statistics of their own."""
    found = {}
    for seed, name in enumerate(("base", "up", "down")):
        torch.manual_seed(seed)
        model = problem.model()
        for _ in range(50):
            model(3 * torch.randn(64, 2))
        found[name] = model.state_dict()
    return found


def test_a_problem_gives_losses_of_its_validation_batches_and_its_metric():
    problem = Shifts(norm=False)
    given = tuned(problem)
    base = given.pop("base")
    before = torch.get_rng_state()
    found = inspect(given, base, problem=problem, points=3)
    assert torch.equal(torch.get_rng_state(), before)
    model = problem.model()
    model.load_state_dict(given["up"])
    batches = problem.batches("validation", None)
    right = sum(problem.losses(model, batch)["up"].item() for batch in batches) / len(batches)
    assert found.evaluations.models["up"]["up"] == pytest.approx(right)
    model.load_state_dict({n: (given["up"][n] + given["down"][n]) / 2 for n in base})
    with torch.no_grad():
        metric = problem.evaluate(model.eval(), "validation")
    assert found.evaluations.metrics["average"] == pytest.approx(metric, rel=1e-5)
    assert "mean closeness" in str(found)


def test_running_statistics_are_renewed_between_the_ends_and_not_at_them():
    problem = Shifts()
    given = tuned(problem)
    base = given.pop("base")
    new, old = (
        segments(inspect(given, base, problem=problem, points=3, renew=n))["up", "down"] for n in (8, 0)
    )
    assert (new.curve[0], new.curve[2]) == (old.curve[0], old.curve[2])
    model = problem.model()
    model.load_state_dict(
        {n: (given["up"][n] + given["down"][n]) / 2 if t.is_floating_point() else t for n, t in base.items()}
    )
    means = [model[0](batch).detach().mean(0) for batch in problem.batches("train", None)]
    model[1].running_mean = torch.stack(means).mean(0)
    model[1].running_var = torch.stack(
        [model[0](b).detach().var(0) for b in problem.batches("train", None)]
    ).mean(0)
    model.eval()
    losses = [problem.losses(model, batch) for batch in problem.batches("validation", None)]
    assert new.curve[1] == pytest.approx(sum((x["up"] + x["down"]).item() for x in losses) / 8, rel=1e-5)
    assert new.curve[1] != pytest.approx(old.curve[1], rel=1e-3)


def test_a_problem_of_another_model_is_an_error():
    with pytest.raises(ValueError, match="the model of problem Shifts does not take"):
        inspect(WELLS, ONE, problem=Shifts())
