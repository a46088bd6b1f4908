"""ExcessMTL against LibMTL's arithmetic, run by hand in float64, and against its paper."""

import pytest
import torch
from tests.core.ranks import Net, losses_of

import equipoise
from equipoise.aggregation import ExcessMTL
from equipoise.testing.ask import advance, ask

ROWS = (
    torch.tensor([[2.0, 0.0], [-1.0, 1.0]], dtype=torch.float64),
    torch.tensor([[1.0, 1.0], [0.0, -2.0]], dtype=torch.float64),
)


def test_two_steps_are_those_of_libmtl():
    """LibMTL's ExcessMTL at its step size of 0.01, its weights over their sum."""
    rule = ExcessMTL()
    wanted = ([0.5, 0.5], [0.4995729489857982, 0.5004270510142018])
    for rows, weights in zip(ROWS, wanted, strict=True):
        found = ask(rule, rows)
        assert found.weights is not None
        assert found.weights.tolist() == pytest.approx(weights, abs=1e-7)
        torch.testing.assert_close(
            found.update, found.weights @ rows
        )  # what is combined are the rows themselves
        advance(rule, rows)


def test_the_excess_risk_is_the_diagonal_of_what_the_stage_shows():
    """He et al. 2024, equation 6: sum of g^2 / sqrt(sum of squares so far); at the first step |g|_1."""
    rule = ExcessMTL()
    (stage,) = rule.stages()
    seen = stage(ROWS[0], block="w", names=("a", "b"))
    assert (seen @ seen.T).diagonal().tolist() == pytest.approx([2.0, 2.0])
    advance(rule, ROWS[0], names=("a", "b"))
    seen = stage(ROWS[1], block="block", names=("a", "b"))
    assert (seen @ seen.T).diagonal().tolist() == pytest.approx([1 / 5**0.5 + 1, 4 / 5**0.5])


def test_an_objective_that_stands_still_gains_weight_on_one_that_converges():
    rule = ExcessMTL(eta=0.5)
    for step in range(6):
        advance(rule, ROWS[0] * torch.tensor([[0.5**step], [1.0]]))
    weights = ask(rule, ROWS[0]).weights
    assert weights is not None
    assert float(weights[1]) > 0.6


def test_the_scale_of_an_objective_does_not_matter():
    """Each excess risk is counted in that of its own warm-up."""
    plain, scaled, factors = (
        ExcessMTL(eta=1.0, warmup=2),
        ExcessMTL(eta=1.0, warmup=2),
        torch.tensor([[1e3], [1e-3]]),
    )
    for rows in (ROWS[0], ROWS[1], ROWS[0], ROWS[1]):
        torch.testing.assert_close(ask(scaled, rows * factors).weights, ask(plain, rows).weights)
        advance(plain, rows)
        advance(scaled, rows * factors)
    assert float((ask(plain, ROWS[1]).weights - 0.5).abs().max()) > 0.01


def test_weights_are_equal_during_the_warm_up():
    rule = ExcessMTL(eta=1.0, warmup=3)
    for number in range(3):
        assert ask(rule, ROWS[number % 2]).weights.tolist() == [0.5, 0.5]
        advance(rule, ROWS[number % 2])
    assert ask(rule, ROWS[1]).weights.tolist() != [0.5, 0.5]


def test_a_zero_direction_waits_for_its_scale():
    rule = ExcessMTL(eta=1.0)
    zero = ROWS[0] * torch.tensor([[0.0], [1.0]])
    for rows in (zero, zero, ROWS[1], ROWS[1]):
        assert ask(rule, rows).finite
        advance(rule, rows)
    assert float(rule.read("scale", ("objective 0",))) > 0


def test_in_the_engine_rows_are_combined_as_they_came():
    net, rule = Net(), ExcessMTL(eta=1.0)
    for number in range(3):
        net.zero_grad()
        rows = equipoise.gradients(losses_of(net, number, 0, 1), net)
        step = equipoise.backward(losses_of(net, number, 0, 1), rule, parameters=net)
        assert step.weights is not None
        wanted = rows.combine(step.weights)["wide.weight"]
        torch.testing.assert_close(net.wide.weight.grad, wanted, rtol=1e-4, atol=1e-6)
        rule.update(step)
    assert float((step.weights - 1 / 3).abs().max()) > 0.01


def test_refusals():
    with pytest.raises(ValueError, match="eta is 0"):
        ExcessMTL(eta=0)
    with pytest.raises(ValueError, match="warmup is 0"):
        ExcessMTL(warmup=0)


def test_one_alone_learns_nothing_from_that():
    """What a and b have of the weight of all stays when each is alone in a batch, once or often."""
    rule, names = ExcessMTL(eta=0.5), ("a", "b")
    for step in range(6):
        advance(rule, ROWS[0] * torch.tensor([[0.5**step], [1.0]]), names=names)
    before = rule.read("logits", names).softmax(0)
    assert float(before[1]) > 0.6
    for i in (0, 1, 1, 1):
        advance(rule, ROWS[0][i : i + 1], names=names[i : i + 1])
    torch.testing.assert_close(rule.read("logits", names).softmax(0), before)
    assert ask(rule, ROWS[0][:1], names=("a",)).weights.tolist() == [1.0]


def test_one_that_comes_late_starts_with_the_mean_weight():
    rule, names = ExcessMTL(eta=0.5), ("a", "b")
    for step in range(6):
        advance(rule, ROWS[0] * torch.tensor([[0.5**step], [1.0]]), names=names)
    shares = rule.read("logits", (*names, "c")).softmax(0)
    assert float(shares[2]) == pytest.approx(1 / 3)
