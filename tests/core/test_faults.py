"""A graph that is gone or was changed in place is told with the losses by name, whatever the route."""

import pytest
import torch
from torch import nn

import equipoise
from equipoise.aggregation import GradDrop, Mean, ObjectiveMomentum, UPGrad
from equipoise.core.faults import SHOWN, explained
from equipoise.scalarization import Linear

ROUTES = {
    "gramian": lambda losses, net: equipoise.backward(losses, UPGrad()),
    "rows": lambda losses, net: equipoise.backward(losses, GradDrop()),
    "one pass": lambda losses, net: equipoise.backward(losses, Mean()),
    "scalariser": lambda losses, net: equipoise.backward(losses, Linear()),
    "sketch": lambda losses, net: equipoise.backward(losses, UPGrad(), gramian="sketch"),
    "transform": lambda losses, net: equipoise.backward(
        losses, UPGrad(), transforms=[ObjectiveMomentum()], parameters=net
    ),
    "samples": lambda losses, net: equipoise.backward(
        torch.stack(list(losses.values())), UPGrad(), samples=True
    ),
    "gradients": lambda losses, net: equipoise.gradients(losses),
}
every_route = pytest.mark.parametrize("route", ROUTES)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


@every_route
def test_a_graph_that_is_gone(route):
    net = network()
    left, right = net(torch.ones(5, 3)).square().mean(0).unbind()
    (left + right).backward()
    before = [parameter.grad.clone() for parameter in net.parameters()]
    with pytest.raises(
        RuntimeError, match=r"'(left|0)'.* a second time, .* compute the losses anew"
    ) as caught:
        ROUTES[route]({"left": left, "right": right}, net)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert all(map(torch.equal, before, [parameter.grad for parameter in net.parameters()]))


@every_route
def test_an_activation_that_was_changed_in_place(route):
    net = network()
    hidden = net[0](torch.ones(5, 3))
    late = hidden[:, 1].exp()
    losses = {"left": hidden[:, 0].mean(), "right": late.mean()}
    late += 1
    with pytest.raises(RuntimeError, match=r"'(right|0)'.*inplace operation .*output 0 of Exp.* y = x \+ 1"):
        ROUTES[route](losses, net)


def test_of_thousands_of_names_some_are_told():
    with (
        pytest.raises(RuntimeError, match=rf"'0', .*'{SHOWN - 1}' and 992 more cannot"),
        explained([str(i) for i in range(1000)]),
    ):
        raise RuntimeError("Trying to backward through the graph a second time")


def test_another_error_is_left_as_it_is():
    error = RuntimeError("out of memory")
    with pytest.raises(RuntimeError) as caught, explained(["left"]):
        raise error
    assert caught.value is error
    assert not hasattr(error, "__notes__")


def test_a_rule_that_gives_no_tensor_is_told_what_to_give():
    class Listed(equipoise.GramianRule):
        def forward(self, gramian):
            return [0.5, 0.5]

    x = torch.ones(2, requires_grad=True)
    with pytest.raises(TypeError, match=r"Listed gave \[0.5, 0.5\]; its forward gives a tensor of \(2,\)"):
        equipoise.backward({"a": x.sum(), "b": x.square().sum()}, Listed())
    assert x.grad is None
