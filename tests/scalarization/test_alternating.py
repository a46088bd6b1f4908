from collections import Counter

import pytest
import torch

import equipoise
from equipoise.core.step import Step
from equipoise.scalarization import Alternating, Linear

NAMES = ("image", "text", "sound")


def step(names=NAMES) -> Step:
    return Step(tuple(names), torch.ones(len(names), dtype=torch.float64), None)


def turns(rule: Alternating, count: int, names=NAMES) -> list[str]:
    found = []
    for _ in range(count):
        found.append(rule.turn(names))
        rule.update(step(names))
    return found


def test_each_step_trains_one_objective_alone():
    """Akbari et al. 2023: an update is made for one sampled objective at a time."""
    rule, losses = Alternating(), torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    for _ in range(10):
        value = rule(losses, names=NAMES)
        (weights,) = torch.autograd.grad(value, losses)
        assert weights.tolist() == [float(name == rule.turn(NAMES)) for name in NAMES]
        rule.update(step())


def test_the_cycle_goes_round_and_a_turn_lasts_its_steps():
    assert turns(Alternating(order="cyclic"), 4) == ["image", "text", "sound", "image"]
    found = turns(Alternating(order="cyclic", steps=2), 7)
    assert found == ["image", "image", "text", "text", "sound", "sound", "image"]


@pytest.mark.parametrize("steps", [1, 3])
def test_draws_come_in_proportion_to_the_weights(steps: int):
    rule = Alternating(weights={"image": 1.0, "text": 2.0, "sound": 5.0}, steps=steps)
    found = turns(rule, 2400 * steps)[::steps]
    share = Counter(found)
    for name, wanted in zip(NAMES, (1 / 8, 2 / 8, 5 / 8), strict=True):
        assert share[name] / 2400 == pytest.approx(wanted, abs=4 * (wanted * (1 - wanted) / 2400) ** 0.5)


def test_a_drawn_turn_lasts_its_steps():
    found = turns(Alternating(steps=4), 400)
    assert all(len(set(found[i : i + 4])) == 1 for i in range(0, 400, 4))
    assert len(set(found)) == 3


def test_who_is_absent_skips_its_turn_and_the_chances_of_the_others_keep_their_ratio():
    rule = Alternating(order="cyclic")
    assert turns(rule, 1) == ["image"]
    assert turns(rule, 1, ("image", "sound")) == ["sound"]
    assert turns(rule, 1) == ["image"]
    drawn = Alternating(weights={"image": 1.0, "text": 2.0, "sound": 5.0})
    share = Counter(turns(drawn, 2400, ("image", "text")))
    assert share["text"] / 2400 == pytest.approx(2 / 3, abs=4 * (2 / 9 / 2400) ** 0.5)


def test_a_loop_may_compute_the_loss_of_the_turn_alone():
    """The same turns as where all losses are computed, whatever `update` gets to see."""
    for order in ("drawn", "cyclic"):
        whole, alone, found = Alternating(order=order), Alternating(order=order), []
        for _ in range(9):
            name = alone.turn(NAMES)
            alone.update(step([name]))
            found.append(name)
        assert turns(whole, 9) == found


def test_the_direction_is_that_of_the_one_loss():
    model = torch.nn.Linear(3, 2)
    rule = Alternating(order="cyclic")
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))

    def gradient(names, rule) -> torch.Tensor:
        model.zero_grad()
        losses = {"a": model(x)[:, 0].square().mean(), "b": (model(x)[:, 1] - 1).square().mean()}
        found = equipoise.backward({name: losses[name] for name in names}, rule)
        rule.update(found)
        assert model.weight.grad is not None
        return model.weight.grad.clone()

    for name in ("a", "b", "a"):
        torch.testing.assert_close(gradient(("a", "b"), rule), gradient((name,), Linear()))


def test_a_step_that_skipped_the_loss_is_no_turn():
    rule = Alternating(order="cyclic")
    nothing = Step(("image",), torch.tensor([float("nan")]), None)
    rule.update(nothing)
    assert turns(rule, 1) == ["image"]


def test_how_often_each_objective_trained_is_kept_by_name():
    rule = Alternating(order="cyclic")
    turns(rule, 4)
    assert rule.read("trained", ("sound", "image", "new")).tolist() == [1.0, 2.0, 0.0]


def test_refusals():
    with pytest.raises(ValueError, match="order is 'random'"):
        Alternating(order="random")
    with pytest.raises(ValueError, match="at least one step"):
        Alternating(steps=0)
    with pytest.raises(ValueError, match="the weight of 'text' is 0"):
        Alternating(weights={"image": 1.0, "text": 0.0})
    with pytest.raises(ValueError, match="'sound'"):
        Alternating(weights={"image": 1.0, "text": 2.0}).turn(NAMES)
    with pytest.raises(ValueError, match="no objective is present"):
        Alternating().turn(())
