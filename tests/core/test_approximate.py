"""Weights from features, from sketches and from earlier steps, and how far they are from exact ones."""

import pytest
import torch
from tests.core.ranks import Net, losses_of
from torch import nn

import equipoise
from equipoise.aggregation import MGDA, GradDrop, UPGrad


def test_features_below_which_all_is_linear_give_the_weights_of_the_gradients_there():
    torch.manual_seed(0)
    trunk, heads = nn.Linear(6, 5), [nn.Linear(5, 1) for _ in range(3)]
    x = torch.randn(9, 6)
    features = trunk(x).tanh()
    losses = {f"{i}": (head(features) - i).square().mean() for i, head in enumerate(heads)}
    step = equipoise.backward(losses, MGDA(), features=features)
    rows = []
    for head, i in zip(heads, range(3), strict=True):
        z = trunk(x).tanh().detach().requires_grad_()
        rows.append(torch.autograd.grad((head(z) - i).square().mean(), z)[0].flatten().double())
    stacked = torch.stack(rows)
    torch.testing.assert_close(step.gramian, stacked @ stacked.T, rtol=1e-5, atol=1e-10)
    assert step.plan.route == "features"
    assert step.plan.passes == 1
    assert "not at the parameters" in step.plan.approximate
    again = [(head(trunk(x).tanh()) - i).square().mean() for i, head in enumerate(heads)]
    (expected,) = torch.autograd.grad(again, trunk.weight, list(step.weights.float()))
    torch.testing.assert_close(trunk.weight.grad, expected, rtol=1e-4, atol=1e-6)
    assert all(head.weight.grad is not None for head in heads)


def test_features_that_no_loss_reaches_are_refused():
    net = Net()
    with pytest.raises(ValueError, match="no loss reaches the features"):
        equipoise.backward(losses_of(net, 0, 0, 1), UPGrad(), features=torch.ones(2, requires_grad=True) * 2)
    with pytest.raises(ValueError, match="need no gradient"):
        equipoise.backward(losses_of(net, 0, 0, 1), UPGrad(), features=torch.ones(2))


def test_weights_are_reused_for_as_many_steps_as_asked():
    net = Net()
    step, ages, routes = None, [], []
    for number in range(7):
        step = equipoise.backward(losses_of(net, number, 0, 1), UPGrad(), weights_every=3, previous=step)
        ages.append(step.age)
        routes.append(step.plan.route)
    assert ages == [0, 1, 2, 0, 1, 2, 0]
    assert routes[:3] == ["directions", "reused weights", "reused weights"]
    assert (
        "weights are 1 steps old"
        in equipoise.backward(
            losses_of(net, 0, 0, 1), UPGrad(), weights_every=2, previous=step
        ).plan.approximate
    )


def test_reused_weights_give_the_weighted_gradients():
    net, again = Net(), Net()
    first = equipoise.backward(losses_of(net, 0, 0, 1), UPGrad())
    net.zero_grad()
    equipoise.backward(losses_of(net, 1, 0, 1), UPGrad(), weights_every=2, previous=first)
    rows = equipoise.gradients(losses_of(again, 1, 0, 1), again)
    update = rows.combine(first.weights)
    for name, parameter in net.named_parameters():
        if "right" not in name:
            torch.testing.assert_close(parameter.grad, update[name], rtol=1e-4, atol=1e-6)


def test_other_objectives_get_fresh_weights():
    net = Net()
    first = equipoise.backward(losses_of(net, 0, 0, 1), UPGrad())
    losses = losses_of(net, 1, 0, 1)
    del losses["size"]
    assert equipoise.backward(losses, UPGrad(), weights_every=5, previous=first).age == 0


def test_a_sketch_is_unbiased_and_its_error_falls_with_its_size():
    """Over many seeds the mean of sketched inner products is the exact one, within three standard errors."""
    from equipoise.core.ghost.linear import LinearUse
    from equipoise.core.sketch import LayerSketch

    torch.manual_seed(0)
    layer, x = nn.Linear(40, 30), torch.randn(12, 40)
    use = LinearUse.read(layer(x).grad_fn, 2, True)
    d = torch.randn(2, 12, 30)
    exact = float((use.gradient(d[0]) * use.gradient(d[1])).sum())
    spreads = []
    for size in (4, 16):
        found = []
        for seed in range(300):
            sketch = LayerSketch(use, size, seed)
            found.append(float((sketch(d[0]) * sketch(d[1])).sum()))
        values = torch.tensor(found)
        spreads.append(float(values.std()))
        assert abs(float(values.mean()) - exact) < 3 * spreads[-1] / 300**0.5
    assert spreads[1] < spreads[0] / 2


def test_sketched_weights_come_near_the_exact_ones():
    net = Net()
    exact = equipoise.backward(losses_of(net, 0, 0, 1), UPGrad())
    step = equipoise.backward(
        losses_of(net, 0, 0, 1), UPGrad(), gramian="sketch", sketch_size=32, parameters=net
    )
    assert "sketch" in {layer.form for layer in step.plan.layers}
    assert "32 x 32" in step.plan.approximate
    lengths = torch.outer(exact.gramian.diagonal(), exact.gramian.diagonal()).sqrt()
    assert float(((step.gramian - exact.gramian) / lengths).abs().max()) < 0.5
    assert step.plan.passes == 4


def test_ways_that_do_not_go_together_are_refused():
    net = Net()
    losses = losses_of(net, 0, 0, 1)
    with pytest.raises(ValueError, match="gramian is 'rough'"):
        equipoise.backward(losses, UPGrad(), gramian="rough")
    with pytest.raises(ValueError, match="weights_every is 0"):
        equipoise.backward(losses, UPGrad(), weights_every=0)
    with pytest.raises(ValueError, match="do not go together"):
        equipoise.backward(losses, UPGrad(), gramian="sketch", weights_every=2)
    with pytest.raises(ValueError, match="GradDrop has none"):
        equipoise.backward(losses, GradDrop(), gramian="sketch")
    with pytest.raises(ValueError, match="compares exact directions"):
        equipoise.backward(losses, UPGrad(), gramian="sketch", verify=True)
    with pytest.raises(ValueError, match="one set of weights"):
        equipoise.backward(losses, UPGrad(), weights_every=2, groups="tensor")
    assert all(parameter.grad is None for parameter in net.parameters())
