"""Observers: what they are told, in which order, and that they change nothing."""

import pytest
import torch
from torch import nn

import equipoise
from equipoise import Accumulator, Observer, backward, scalars
from equipoise.aggregation import GradDrop, Mean, MoCo, UPGrad
from equipoise.core.gramian import cosines
from equipoise.scalarization import Linear


class Diary(Observer):
    """Writes down what it is told."""

    def __init__(self, layers: bool = False) -> None:
        self.layers = layers
        self.told: list[tuple[str, object]] = []

    def collected(self, seen):
        self.told.append(("collected", seen))

    def combined(self, step):
        self.told.append(("combined", step))


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def losses(net: nn.Module, rows: int = 6, seed: int = 1) -> dict[str, torch.Tensor]:
    x = torch.randn(rows, 5, generator=torch.Generator().manual_seed(seed))
    out = net(x)
    return {"one": out[:, 0].square().mean(), "two": (out[:, 1] - 1).square().mean(), "three": -out.mean()}


RULES = {"gramian": UPGrad, "row": GradDrop, "stages": MoCo, "scalarizer": Linear, "constant": Mean}


@pytest.mark.parametrize("name", RULES)
def test_each_route_tells_what_was_collected_and_then_what_was_combined(name):
    net, diary = model(), Diary()
    step = backward(losses(net), RULES[name](), parameters=net, observers=diary)
    (first, seen), (second, combined) = diary.told
    assert (first, second) == ("collected", "combined")
    assert combined is step
    assert seen.names == step.names
    assert torch.equal(seen.losses, step.losses)
    assert (seen.gramian is None) == (step.gramian is None)


@pytest.mark.parametrize("name", ["gramian", "row", "stages"])
def test_gramians_of_layers_sum_to_the_whole(name):
    net, diary = model(), Diary(layers=True)
    step = backward(losses(net), RULES[name](), parameters=net, observers=[diary])
    assert list(step.layers) == ["0", "2"]
    torch.testing.assert_close(sum(step.layers.values()), step.gramian)
    assert diary.told[0][1].layers.keys() == step.layers.keys()


def test_a_layer_has_the_gramian_of_its_own_gradients():
    net = model()
    step = backward(losses(net), UPGrad(), parameters=net, observers=Diary(layers=True))
    parameters = list(net[2].parameters())
    found = [torch.autograd.grad(losses(net)[name], parameters) for name in step.names]
    rows = torch.stack([torch.cat([g.flatten() for g in one]) for one in found]).double()
    torch.testing.assert_close(step.layers["2"], rows @ rows.T, rtol=1e-5, atol=1e-8)


def test_layers_cross_groups_and_small_budgets():
    net = model()
    plain = backward(losses(net), UPGrad(), parameters=net, observers=Diary(layers=True))
    for options in ({"groups": "tensor"}, {"max_memory": 1024}):
        step = backward(losses(net), UPGrad(), parameters=net, observers=Diary(layers=True), **options)
        for layer, gramian in plain.layers.items():
            torch.testing.assert_close(step.layers[layer], gramian)


@pytest.mark.parametrize("layers", [False, True])
def test_an_observer_changes_nothing(layers):
    nets = [model(), model()]
    backward(losses(nets[0]), UPGrad(), parameters=nets[0])
    backward(losses(nets[1]), UPGrad(), parameters=nets[1], observers=Diary(layers))
    for one, other in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0 if not layers else 1e-6, atol=0)


def test_micro_batches_are_told_once():
    net, diary = model(), Diary(layers=True)
    accumulator = Accumulator(UPGrad(), parameters=net, observers=diary)
    for seed in (1, 2):
        accumulator.add(losses(net, seed=seed))
    step = accumulator.backward()
    assert [event for event, _ in diary.told] == ["collected", "combined"]
    torch.testing.assert_close(sum(step.layers.values()), step.gramian)


def test_what_collected_raises_leaves_the_gradients_alone():
    class Stops(Observer):
        def collected(self, seen):
            raise RuntimeError("enough")

    net = model()
    with pytest.raises(RuntimeError, match="enough"):
        backward(losses(net), UPGrad(), parameters=net, observers=Stops())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_what_is_no_observer_is_refused():
    net = model()
    with pytest.raises(TypeError, match="no observer"):
        backward(losses(net), Mean(), observers=[print])


def test_scalars_have_names_that_stay():
    net = model()
    step = backward(losses(net), UPGrad(), parameters=net, observers=Diary(layers=True))
    found = scalars(step)
    names = step.names
    assert step.gramian is not None
    assert [key for key in found if key.startswith("weight/")] == [f"weight/{name}" for name in names]
    assert found["norm/two"] == pytest.approx(float(step.gramian[1, 1].sqrt()))
    assert found["cosine/one:three"] == pytest.approx(float(cosines(step.gramian)[0, 2]))
    assert found["conflict/worst_cosine"] == min(v for k, v in found.items() if k.startswith("cosine/"))
    assert {key for key in found if key.startswith("layer/")} == {
        f"layer/{layer}/{key}" for layer in ("0", "2") for key in ("share", "worst_cosine")
    }


def test_scalars_of_groups_and_of_one_pass():
    net = model()
    by_layer = scalars(backward(losses(net), UPGrad(), parameters=net, groups="layer"))
    assert "weight/0/one" in by_layer
    assert "weight/one" not in by_layer
    one_pass = scalars(backward(losses(net), Linear(), parameters=net))
    assert set(one_pass) == {f"{kind}/{name}" for kind in ("loss", "weight") for name in losses(net)} | {
        "skipped"
    }
    assert equipoise.scalars is scalars
