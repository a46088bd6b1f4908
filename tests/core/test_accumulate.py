"""Micro-batches against one batch of all their samples."""

import copy

import pytest
import torch
from tests.core.ranks import RULES, Net, losses_of, step_losses

import equipoise

PARTS = 4
SIZES = ("UPGrad", "MGDA", "GradDrop", "Mean", "Linear", "FAMO")


def both(rule_name: str, **options):
    """Gradients and step of one batch, and of its quarters accumulated."""
    whole, net = Net(), Net()
    rule = RULES[rule_name]()
    again = copy.deepcopy(rule)
    step = equipoise.backward(losses_of(whole, 0, 0, 1), rule, **options)
    accumulator = equipoise.Accumulator(again, **options)
    for part in range(PARTS):
        accumulator.add(losses_of(net, 0, part, PARTS))
    return whole, step, net, accumulator.backward()


@pytest.mark.parametrize("rule_name", SIZES)
def test_quarters_equal_the_whole(rule_name):
    whole, step, net, accumulated = both(rule_name)
    torch.testing.assert_close(accumulated.losses, step.losses, rtol=1e-5, atol=1e-7)
    if step.gramian is not None:
        torch.testing.assert_close(accumulated.gramian, step.gramian, rtol=1e-4, atol=1e-7)
    if step.weights is not None:
        torch.testing.assert_close(accumulated.weights, step.weights, rtol=1e-3, atol=1e-6)
    for one, other in zip(whole.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-3, atol=1e-6)


def test_the_mean_of_gramians_would_be_wrong():
    """Averaging the parts' Gramians is what must not be done; here it is far off."""
    _, step, _, _ = both("UPGrad")
    net = Net()
    parts = [equipoise.gramian(losses_of(net, 0, part, PARTS)) for part in range(PARTS)]
    off = (torch.stack(parts).mean(0) - step.gramian).norm() / step.gramian.norm()
    assert float(off) > 0.05


def test_it_begins_anew_and_training_goes_the_same_way():
    whole, net = Net(), Net()
    rule, again = RULES["FAMO"](), RULES["FAMO"]()
    accumulator = equipoise.Accumulator(again)
    optimizers = [
        torch.optim.SGD([*m.parameters(), *r.parameters()], 0.1) for m, r in ((whole, rule), (net, again))
    ]
    for number in range(5):
        step = equipoise.backward(losses_of(whole, number, 0, 1), rule)
        for part in range(PARTS):
            accumulator.add(losses_of(net, number, part, PARTS))
        accumulated = accumulator.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        rule.update(step, step_losses(step))
        again.update(accumulated, step_losses(accumulated))
    for one, other in zip(whole.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-5)


def test_parts_of_different_size_count_by_their_weight():
    whole, net = Net(), Net()
    rule = RULES["UPGrad"]()
    equipoise.backward(losses_of(whole, 0, 0, 1), rule)
    accumulator = equipoise.Accumulator(rule)
    accumulator.add(losses_of(net, 0, 0, 2), weight=12)
    for part in (2, 3):
        accumulator.add(losses_of(net, 0, part, 4), weight=6)
    accumulator.backward()
    for one, other in zip(whole.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-3, atol=1e-6)


def test_factors_are_kept_while_they_are_smaller_and_rows_after_that():
    _, _, _, step = both("UPGrad")
    forms = {layer.form for layer in step.plan.layers}
    assert forms == {"ghost", "block"}
    net = Net()
    accumulator = equipoise.Accumulator(RULES["UPGrad"]())
    for number in range(12):
        accumulator.add(losses_of(net, number, 0, 1))
    step = accumulator.backward()
    rows = 3 * sum(p.nbytes for p in net.parameters())
    assert step.plan.measured <= rows
    assert step.plan.route == "accumulated"


def test_private_parameters_and_groups_and_preferences_go_through():
    options = {"preference": {"class": 2.0, "number": 1.0, "size": 1.0}, "private": "weighted"}
    whole, step, net, accumulated = both("UPGrad", **options)
    assert step.preference is not None
    torch.testing.assert_close(accumulated.preference, step.preference)
    torch.testing.assert_close(net.right.weight.grad, whole.right.weight.grad, rtol=1e-3, atol=1e-6)
    _, _, _, grouped = both("UPGrad", groups="tensor")
    assert len(grouped.groups) == 7


def test_refusals_name_what_is_wrong_and_keep_what_was_added():
    net = Net()
    accumulator = equipoise.Accumulator(RULES["UPGrad"]())
    with pytest.raises(ValueError, match="no micro-batch was added"):
        accumulator.backward()
    accumulator.add(losses_of(net, 0, 0, 1))
    losses = losses_of(net, 1, 0, 1)
    del losses["size"]
    with pytest.raises(ValueError, match="has the objectives class, number, those before had"):
        accumulator.add(losses)
    with pytest.raises(ValueError, match="weight is 0"):
        accumulator.add(losses_of(net, 1, 0, 1), weight=0)
    assert accumulator.backward().names == ("class", "number", "size")
    poisoned = losses_of(net, 1, 0, 1)
    poisoned["number"] = poisoned["number"] * float("inf")
    accumulator.add(poisoned)
    net.zero_grad()
    with pytest.raises(equipoise.NonFiniteDirection, match="'number'"):
        accumulator.backward()
    assert all(p.grad is None for p in net.parameters())
