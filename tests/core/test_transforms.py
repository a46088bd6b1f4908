"""Rows that pass through transforms before a rule."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.core.ranks import Net, losses_of
from torch import Tensor, nn

import equipoise
from equipoise.aggregation import GradDrop, Mean, UPGrad
from equipoise.core.rule import GramianRule, RowTransform
from equipoise.core.step import Step
from equipoise.core.tracked import Tracked
from equipoise.scalarization import Linear

STEP = Step(("x", "y.z"), torch.ones(2, dtype=torch.float64), None)


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
    assert step.plan.notes == ("weights, Gramian and conflict are of the rows behind Scaled",)
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


class Averaged(Tracked):
    def rate(self, count: int) -> float:
        return 1 / count


def after(transform, *values: float):
    for value in values:
        transform(torch.tensor([[value, 1.0], [2.0, value]]), block="a.weight", names=("x", "y.z"))
        transform(torch.tensor([[value]]), block="b", names=("x",))
        transform.update(STEP)
    return transform


@pytest.mark.parametrize("kind", [Momentum, Averaged])
def test_a_saved_state_is_a_snapshot(kind):
    """What the rule does afterwards does not move it, and a loaded rule forgets what it was about to keep."""
    transform = after(kind(), 1.0)
    saved = transform.state_dict()
    wanted = {key: value.clone() for key, value in saved.items()}
    after(transform, 5.0)
    transform(torch.tensor([[9.0]]), block="b", names=("x",))
    assert all(torch.equal(saved[key], value) for key, value in wanted.items())
    transform.load_state_dict(saved)
    transform.update(STEP)
    again = transform.state_dict()
    assert again.keys() == wanted.keys()
    assert all(torch.equal(again[key], value) for key, value in wanted.items())


@pytest.mark.parametrize("kind", [Momentum, Averaged])
def test_the_state_goes_through_safetensors(kind, tmp_path):
    """A tensor for each row, inside another module too."""
    holder = nn.ModuleDict({"transform": after(kind(), 1.0, 2.0)})
    save_file(holder.state_dict(), tmp_path / "state.safetensors")
    fresh = nn.ModuleDict({"transform": after(kind(), 7.0)})
    fresh.load_state_dict(load_file(tmp_path / "state.safetensors"))
    rows = torch.tensor([[3.0, 1.0], [2.0, 3.0]])
    wanted, found = (one["transform"](rows, block="a.weight", names=("x", "y.z")) for one in (holder, fresh))
    assert torch.equal(wanted, found)


def test_a_state_that_lacks_a_row_is_refused():
    saved = after(Momentum(), 1.0).state_dict()
    del saved["rows.1"]
    with pytest.raises(RuntimeError, match=r'Missing key.*"rows.1"'):
        Momentum().load_state_dict(saved)
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"rows.9"'):
        Momentum().load_state_dict(after(Momentum(), 1.0).state_dict() | {"rows.9": torch.ones(1)})


def test_a_block_that_changed_is_named():
    transform = after(Averaged(), 1.0)
    with pytest.raises(ValueError, match=r"block 'b' has changed: 1 numbers of 'x' are kept.* takes 2"):
        transform(torch.ones(1, 2), block="b", names=("x",))
