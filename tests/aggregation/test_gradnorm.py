"""GradNorm against the derivative that LibMTL's code takes, run by hand, and against its paper."""

import pytest
import torch
from torch import Tensor

from equipoise.aggregation import GradNorm
from equipoise.core.step import Step
from equipoise.testing.ask import advance

NAMES = ("a", "b", "c")
LENGTHS = torch.tensor([5.0, 1.0, 2.0], dtype=torch.float64)
FIRST = torch.tensor([2.0, 1.0, 4.0], dtype=torch.float64)
LATER = torch.tensor([1.0, 0.9, 1.0], dtype=torch.float64)


def step(losses: Tensor, lengths: Tensor, weights: Tensor | None = None) -> Step:
    weights = torch.ones(len(lengths), dtype=torch.float64) if weights is None else weights
    return Step(NAMES[: len(losses)], losses, weights, torch.diag(lengths.square()))


def started(**options: float) -> GradNorm:
    """After a step with equal lengths, all of which are where they should be: the first losses are known."""
    rule = GradNorm(**options)
    rule.update(step(FIRST, torch.ones(3, dtype=torch.float64)))
    assert rule(torch.eye(3), names=NAMES).tolist() == [1.0, 1.0, 1.0]
    return rule


def test_a_step_goes_down_the_slope_of_libmtl():
    """LibMTL's L_grad at weights 1 is 8.45 with the slope (5, -1, 2), the mean length 8/3."""
    rule = started()
    rule.update(step(LATER, LENGTHS))
    moved = 1 - 0.025 * torch.tensor([5.0, -1.0, 2.0], dtype=torch.float64) / (8 / 3)
    torch.testing.assert_close(rule(torch.eye(3), names=NAMES), moved * 3 / moved.sum())


def test_the_objective_falls_until_lengths_are_where_they_should_be():
    """Chen et al. 2018, equation 2, whose value LibMTL gives as 8.453345978577891 at weights 1."""
    rule = started(step_size=0.005)
    ratio = LATER / FIRST
    pull = (ratio / ratio.mean()) ** 1.5

    def height() -> tuple[float, float]:
        lengths = rule(torch.eye(3), names=NAMES) * LENGTHS
        return float((lengths - lengths.mean() * pull).abs().sum()), float(lengths.mean())

    assert height()[0] == pytest.approx(8.453345978577891)
    for _ in range(2000):
        rule.update(step(LATER, LENGTHS))
    off, mean = height()
    least = mean * abs(float(pull.sum()) - 3)  # the lengths sum to 3 means, their targets to more
    assert least <= off < 1.2 * least
    weighted = rule(torch.eye(3), names=NAMES) * LENGTHS
    torch.testing.assert_close(weighted / weighted.sum(), pull / pull.sum(), rtol=0, atol=0.05)


def test_an_objective_that_lags_behind_gains_weight():
    rule = started()
    for _ in range(20):
        rule.update(
            step(torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64), torch.ones(3, dtype=torch.float64))
        )
    weights = rule(torch.eye(3), names=NAMES).tolist()
    assert weights[1] > 1.2
    assert sum(weights) == pytest.approx(3)


def test_alpha_zero_makes_weighted_directions_equally_long():
    """The paper: with alpha = 0 the norms of all gradients are pinned to the same value."""
    rule = started(alpha=0.0, step_size=0.002)
    for _ in range(4000):
        rule.update(step(LATER, LENGTHS))
    weighted = rule(torch.eye(3), names=NAMES) * LENGTHS
    torch.testing.assert_close(weighted, weighted.mean().expand(3), rtol=0.02, atol=0)


def test_the_scale_of_the_gradients_does_not_matter():
    one, other = started(), started()
    for number in range(5):
        one.update(step(LATER / (1 + number), LENGTHS))
        other.update(step(LATER / (1 + number), LENGTHS * 1e-9))
    torch.testing.assert_close(one(torch.eye(3), names=NAMES), other(torch.eye(3), names=NAMES))


def test_losses_below_zero_are_refused_by_name():
    with pytest.raises(ValueError, match="those of b"):
        GradNorm()(torch.eye(2), losses=torch.tensor([1.0, -1.0]), names=("a", "b"))
    for options in ({"alpha": -1.0}, {"step_size": 0.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            GradNorm(**options)


def test_one_alone_learns_nothing_from_that():
    """What a and b have of the weight of all stays when each is alone, and two share theirs."""
    rule, rows = GradNorm(step_size=0.2), torch.tensor([[4.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    names = ("a", "b", "c")
    for _ in range(3):
        advance(rule, rows, names=names)
    before = rule.read("weights", names).clone()
    for i, name in enumerate(names):
        advance(rule, rows[i : i + 1], names=(name,))
    torch.testing.assert_close(rule.read("weights", names), before)
    advance(rule, rows[:2], names=names[:2])
    after = rule.read("weights", names)
    assert float(after[:2].sum()) == pytest.approx(float(before[:2].sum()))
    assert not torch.allclose(after, before)
