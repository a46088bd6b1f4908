"""Rows that pass through transforms before a rule."""

import pytest
import torch
from tests.core.ranks import Net, losses_of
from torch import Tensor

import equipoise
from equipoise.aggregation import GradDrop, Mean, UPGrad
from equipoise.core.rule import GramianRule, RowTransform
from equipoise.scalarization import Linear


class Scaled(RowTransform):
    """Each objective's rows times a number by its name."""

    def forward(self, rows: Tensor, *, names: tuple[str, ...] = ()) -> Tensor:
        factors = {"class": 2.0, "number": -1.0, "size": 3.0}
        return rows * torch.tensor([factors[name] for name in names])[:, None]


class Momentum(RowTransform):
    """The mean of a row and what it was after the last step."""

    def forward(self, rows: Tensor, *, block: str = "", names: tuple[str, ...] = ()) -> Tensor:
        known = self.known(block, names)
        pairs = zip(rows, known, strict=True)
        moved = [row if old is None else (row + old) / 2 for row, old in pairs]
        return self.becomes(block, names, torch.stack(moved))


class Cut(RowTransform):
    """Gives one row less than it got."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows[1:]


def test_a_gramian_rule_sees_the_transformed_rows():
    net, rule = Net(), UPGrad()
    rows = equipoise.gradients(losses_of(net, 0, 0, 1), net)
    factors = torch.tensor([2.0, -1.0, 3.0], dtype=torch.float64)
    shared = equipoise.Bundle(rows.names, {k: v for k, v in rows.blocks.items() if "right" not in k})
    gramian = shared.gramian() * factors * factors[:, None]
    step = equipoise.backward(losses_of(net, 0, 0, 1), rule, transforms=Scaled(), parameters=net)
    torch.testing.assert_close(step.gramian, gramian, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(step.weights, rule(gramian), rtol=1e-4, atol=1e-7)
    update = shared.combine(step.weights * factors)
    for name, parameter in net.named_parameters():
        if name in update:
            torch.testing.assert_close(parameter.grad, update[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rule", [UPGrad(), GradDrop(), Mean()], ids=["UPGrad", "GradDrop", "Mean"])
def test_a_budget_changes_nothing(rule):
    whole, split = Net(), Net()
    one = equipoise.backward(
        losses_of(whole, 0, 0, 1), rule, transforms=[Scaled(), Momentum()], parameters=whole
    )
    two = equipoise.backward(
        losses_of(split, 0, 0, 1),
        rule,
        transforms=[Scaled(), Momentum()],
        parameters=split,
        max_memory="725KiB",
    )
    assert one.plan.sweeps == 1
    assert two.plan.sweeps > 1
    for mine, other in zip(whole.parameters(), split.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-7)


def test_state_advances_in_update_alone_and_goes_with_names():
    net, transform, rule = Net(), Momentum(), Mean()
    first = equipoise.backward(losses_of(net, 0, 0, 1), rule, transforms=transform, parameters=net)
    once = net.wide.weight.grad.clone()
    net.zero_grad()
    equipoise.backward(losses_of(net, 0, 0, 1), rule, transforms=transform, parameters=net)
    torch.testing.assert_close(net.wide.weight.grad, once)
    transform.update(first)
    net.zero_grad()
    losses = losses_of(net, 1, 0, 1)
    del losses["size"]
    equipoise.backward(losses, rule, transforms=transform, parameters=net)
    old, new = (
        equipoise.gradients(
            {k: v for k, v in losses_of(net, number, 0, 1).items() if k != "size"}, {"w": net.wide.weight}
        ).combine([0.5, 0.5])["w"]
        for number in (0, 1)
    )
    torch.testing.assert_close(net.wide.weight.grad, (old + new) / 2, rtol=1e-4, atol=1e-7)
    fresh = Momentum()
    fresh.load_state_dict(transform.state_dict())
    assert [row is not None for row in fresh.known("wide.weight", ["class", "other"])] == [True, False]


def test_a_scaler_sees_scaled_gradients_and_a_transform_unscaled_rows():
    plain, scaled = Net(), Net()
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    equipoise.backward(losses_of(plain, 0, 0, 1), UPGrad(), transforms=Momentum(), parameters=plain)
    equipoise.backward(
        losses_of(scaled, 0, 0, 1), UPGrad(), transforms=Momentum(), scaler=scaler, parameters=scaled
    )
    for one, other in zip(plain.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(512 * one.grad, other.grad, rtol=1e-4, atol=1e-4)


def test_refusals():
    net = Net()
    losses = losses_of(net, 0, 0, 1)
    with pytest.raises(ValueError, match="parameters=model"):
        equipoise.backward(losses, UPGrad(), transforms=Scaled())
    with pytest.raises(ValueError, match="Linear sees losses alone"):
        equipoise.backward(losses, Linear(), transforms=Scaled(), parameters=net)
    with pytest.raises(ValueError, match="Cut gave rows of shape"):
        equipoise.backward(losses, UPGrad(), transforms=Cut(), parameters=net, retain_graph=True)
    losses["number"] = losses["number"] * float("nan")
    with pytest.raises(equipoise.NonFiniteDirection, match="'number'"):
        equipoise.backward(losses, UPGrad(), transforms=Momentum(), parameters=net, retain_graph=True)
    assert all(parameter.grad is None for parameter in net.parameters())
    step = equipoise.backward(losses, UPGrad(), transforms=Momentum(), parameters=net, on_nonfinite="skip")
    assert step.skipped == ("number",)
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in net.parameters())


class Halved(RowTransform):
    """Shows the rule rows of half their length; what is combined stays whole."""

    measures = True

    def forward(self, rows: Tensor) -> Tensor:
        return rows / 2


class ByLength(GramianRule):
    """Weights that are the squared lengths, after the rule's own transform."""

    def __init__(self) -> None:
        super().__init__()
        self.halved = Halved()

    def stages(self) -> tuple[RowTransform, ...]:
        return (self.halved,)

    def forward(self, gramian: Tensor) -> Tensor:
        return gramian.diagonal()


@pytest.mark.parametrize("budget", [None, "725KiB"])
def test_a_rule_brings_a_transform_that_only_measures(budget):
    net = Net()
    rows = equipoise.gradients(losses_of(net, 0, 0, 1), net)
    shared = equipoise.Bundle(rows.names, {k: v for k, v in rows.blocks.items() if "right" not in k})
    step = equipoise.backward(losses_of(net, 0, 0, 1), ByLength(), parameters=net, max_memory=budget)
    weights = shared.gramian().diagonal() / 4
    torch.testing.assert_close(step.weights, weights, rtol=1e-5, atol=1e-9)
    assert step.weights is not None
    update = shared.combine(weights)
    for name, parameter in net.named_parameters():
        if name in update:
            torch.testing.assert_close(parameter.grad, update[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("rule", "transforms"), [(UPGrad(), [Halved(), Scaled()]), (GradDrop(), [Halved()])])
def test_a_transform_that_only_measures_stands_last_and_before_a_gramian_rule(rule, transforms):
    net = Net()
    with pytest.raises(ValueError, match="only measures stands last"):
        equipoise.backward(losses_of(net, 0, 0, 1), rule, transforms=transforms, parameters=net)
