"""SelfPositioning finds direction and length of known optima, and lowers the loss of real experts."""

import pytest
import torch
from tests.merging.experts import experts, held, network
from torch import nn
from torch.nn import functional

from equipoise.merging import Average, SelfPositioning, merge


def row(*values):
    return {"weight": torch.tensor([values])}


def distance(model, task, target):
    return (model.weight[0] - target).square().sum()


def test_a_worked_optimum():
    """From base 0, experts (2, 0) and (0, 1/2), targets (1, 0) and (0, 1): the mean loss is least at
    (1/2, 1/2), that is s w = (1/4, 1), s = 5/4, w = (1/5, 4/5)."""
    model = nn.Linear(2, 1, bias=False)
    models = {"a": row(2.0, 0.0), "b": row(0.0, 0.5)}
    batches = {"a": [torch.tensor([1.0, 0.0])], "b": [torch.tensor([0.0, 1.0])]}
    found = SelfPositioning(steps=400).fit(model, models, row(0.0, 0.0), batches, distance)
    assert found.length == pytest.approx(1.25, abs=1e-2)
    assert found.direction == pytest.approx({"a": 0.2, "b": 0.8}, abs=1e-2)
    assert found.weights == pytest.approx({"a": 0.25, "b": 1.0}, abs=2e-2)
    merged = merge(models, row(0.0, 0.0), method=found.method)["weight"]
    torch.testing.assert_close(merged, torch.tensor([[0.5, 0.5]]), rtol=0.0, atol=1e-2)
    assert sum(found.direction.values()) == pytest.approx(1.0)


def test_tasks_count_alike_however_many_batches_they_have():
    model, models = nn.Linear(2, 1, bias=False), {"a": row(1.0, 0.0), "b": row(0.0, 1.0)}
    batches = {"a": [torch.tensor([1.0, 0.0])] * 50, "b": [torch.tensor([0.0, 1.0])]}
    found = SelfPositioning(steps=300).fit(model, models, row(0.0, 0.0), batches, distance)
    assert found.direction == pytest.approx({"a": 0.5, "b": 0.5}, abs=1e-3)


def test_one_model_is_scaled():
    model = nn.Linear(1, 1, bias=False)
    found = SelfPositioning(steps=300).fit(
        model, {"a": row(4.0)}, row(0.0), {"a": [torch.tensor([1.0])]}, distance
    )
    assert found.weights == pytest.approx({"a": 0.25}, abs=1e-2)


def test_real_experts_lose_less_than_their_average():
    models, base = experts()

    def loss(model, task, batch):
        return functional.cross_entropy(model(batch[0]), batch[1])

    probe = {name: found[:1] for name, found in held().items()}
    found = SelfPositioning().fit(network(), models, base, probe, loss)
    assert found.losses[-1] < found.losses[0]

    def mean(state):
        model = network()
        model.load_state_dict(state)
        with torch.no_grad():
            rest = [loss(model, name, batch) for name, found in held().items() for batch in found[1:]]
        return float(torch.stack(rest).mean())

    average = mean(merge(models, base, method=Average()))
    assert mean(merge(models, base, method=found.method)) < average


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match="length is 0"):
        SelfPositioning(length=0.0)
    model = nn.Linear(1, 1, bias=False)

    def broken(held, task, batch):
        return held.weight.sum() * float("nan")

    with pytest.raises(ValueError, match="the loss is nan after 0 steps"):
        SelfPositioning().fit(model, {"a": row(1.0)}, row(0.0), {"a": [1]}, broken)
