"""Losses, graphs and parameters that do not fit."""

import torch
from docs.mistakes.making import mistake
from docs.mistakes.training import losses, net, x
from torch import nn

import equipoise
from equipoise.aggregation import PCGrad, UPGrad
from equipoise.scalarization import Linear

LOSSES, GRAPHS = "Losses", "Graphs and parameters"


@mistake(LOSSES)
def _() -> None:
    """A loss that was detached"""
    given = losses()
    equipoise.backward({"left": given["left"], "right": given["right"].detach()}, UPGrad())


@mistake(LOSSES)
def _() -> None:
    """Losses computed under no_grad"""
    with torch.no_grad():
        given = losses()
    equipoise.backward(given, UPGrad())


@mistake(LOSSES)
def _() -> None:
    """A number in place of a loss"""
    equipoise.backward({"left": losses()["left"], "right": x.sum().item()}, UPGrad())


@mistake(LOSSES)
def _() -> None:
    """A loss that is not reduced to one number"""
    equipoise.backward({"left": losses()["left"], "right": net(x).square()[:, 1]}, UPGrad())


@mistake(LOSSES)
def _() -> None:
    """A complex loss"""
    equipoise.backward({"left": losses()["left"], "right": losses()["right"] * 1j}, UPGrad())


@mistake(LOSSES)
def _() -> None:
    """No loss at all"""
    equipoise.backward({}, UPGrad())


@mistake(LOSSES)
def _() -> None:
    """The sum in place of the losses"""
    equipoise.backward(sum(losses().values()), UPGrad())


@mistake(LOSSES)
def _() -> None:
    """A loss that is not a number"""
    given = losses()
    equipoise.backward({"left": given["left"], "right": given["right"] * float("nan")}, UPGrad())


@mistake(LOSSES)
def _() -> None:
    """Named losses where one for each sample is wanted"""
    equipoise.backward(losses(), UPGrad(), samples=True)


@mistake(LOSSES)
def _() -> None:
    """A loss on a device that holds no numbers"""
    away = nn.Linear(3, 1, device="meta")(torch.ones(5, 3, device="meta")).mean()
    equipoise.backward({"left": losses()["left"], "right": away}, UPGrad())


@mistake(GRAPHS)
def _() -> None:
    """Losses used twice, when their graph is gone"""
    given = losses()
    equipoise.backward(given, UPGrad())
    equipoise.backward(given, UPGrad())


@mistake(GRAPHS)
def _() -> None:
    """The same after a plain backward pass, with a scalariser"""
    given = losses()
    sum(given.values()).backward()
    equipoise.backward(given, Linear())


@mistake(GRAPHS)
def _() -> None:
    """An activation changed in place before the backward pass"""
    hidden = net[0](x).exp()
    given = {"left": hidden[:, 0].mean(), "right": hidden[:, 1].mean()}
    hidden += 1
    equipoise.backward(given, PCGrad())


@mistake(GRAPHS)
def _() -> None:
    """Losses that share no parameter"""
    one, other = nn.Linear(3, 1), nn.Linear(3, 1)
    equipoise.gradients({"left": one(x).mean(), "right": other(x).mean()})


@mistake(GRAPHS)
def _() -> None:
    """The parameters of another model"""
    equipoise.backward(losses(), UPGrad(), parameters=nn.Linear(3, 4))


@mistake(GRAPHS)
def _() -> None:
    """Layers in place of parameters"""
    equipoise.backward(losses(), UPGrad(), parameters=list(net))


@mistake(GRAPHS)
def _() -> None:
    """Gradients of single samples through a batch normalisation"""
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    equipoise.sample_gradients(model, nn.functional.mse_loss, x, torch.ones(5, 2))


@mistake(GRAPHS)
def _() -> None:
    """Losses in place of a bundle"""
    equipoise.diagnose(losses())
