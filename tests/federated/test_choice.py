"""How clients are trained is asked of the clock, said with its cost, and never changes the weights."""

import pytest
import torch
from tests.federated.watched import WHOLE, digits
from torch import nn

from equipoise.federated import FedAvg, Local, OneByte, federate
from equipoise.federated.engine import choice
from equipoise.federated.engine.batched import Batched
from equipoise.federated.engine.choice import Trial, choose
from equipoise.federated.engine.coordinator import first_model
from equipoise.federated.engine.placed import parameters_of
from equipoise.federated.engine.task import Task
from equipoise.federated.engine.worker import Worker


def prepared(held, algorithm=None, local=WHOLE):
    """What `choose` is given for all clients of a federation."""
    algorithm = algorithm or FedAvg()
    held.prepare()
    model = first_model(held, algorithm, 0)
    parts = held, algorithm, model, local, 0
    kept = algorithm.client.start(parameters_of(model))
    tasks = [Task(name, parameters_of(model), {}, kept, {}) for name in held.clients]
    return Worker(*parts), Batched(*parts), tasks


def chosen(held, batching="auto", **options):
    return choose(batching, *prepared(held, **options), number=1)


def network(held, *layers):
    """The same clients with another network."""
    held.model = lambda: nn.Sequential(nn.Flatten(), *layers, nn.Linear(64, 10)).double()
    return held


class Clock:
    """Stands in for the two ways of training: each takes so many seconds a client."""

    def __init__(self, loop, together):
        self.one, self.many, self.tried = loop, together, []

    def loop(self, tasks):
        return self.one

    def batched(self, tasks):
        self.tried.append(len(tasks))
        return self.many[len(tasks)]


@pytest.mark.parametrize(
    ("many", "together", "tried"),
    [
        ({8: 0.5, 32: 0.3, 100: 0.1}, 128, [8, 32, 100]),
        ({8: 0.5, 32: 0.2, 100: 0.19}, 32, [8, 32, 100]),
        ({8: 0.5, 32: 0.8}, 8, [8, 32]),
        ({8: 1.4}, 1, [8]),
        ({8: 1.1, 32: 0.95, 100: 0.95}, 1, [8, 32, 100]),
        ({8: 1.1, 32: 0.5, 100: 0.4}, 128, [8, 32, 100]),
    ],
)
def test_the_fewest_that_are_clearly_faster_are_taken_and_hopeless_sizes_left(many, together, tried):
    clock = Clock(1.0, many)
    found, faster = choice._faster(clock, [None] * 100, choice.SIZES)
    assert (found, clock.tried) == (together, tried)
    assert faster == pytest.approx(1 / (0.9 if found == 1 else many[min(found, 100)]), rel=0.12)


def test_ten_clients_are_tried_once_and_all_at_once():
    clock = Clock(1.0, {10: 0.5})
    assert choice._faster(clock, [None] * 10, choice.SIZES) == (32, 2.0)
    assert clock.tried == [10]


def test_many_small_clients_are_trained_together_and_the_trial_says_what_it_cost():
    found = chosen(digits(client_count=100, train=1000, split="iid"))
    assert found.together > 1
    assert found.seconds > 0
    assert "times as fast as one after the other, in a trial of" in found.reason


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        (lambda: digits(client_count=1), "there is one client"),
        (lambda: network(digits(), nn.BatchNorm1d(64)), "keeps statistics of its batches"),
        (lambda: network(digits(), nn.Dropout()), "drops units at random"),
    ],
)
def test_what_keeps_clients_apart_is_said(held, reason):
    found = chosen(held())
    assert found.together == 1
    assert reason in found.reason


class Branching(nn.Module):
    """Looks at the data."""

    def forward(self, inputs):
        return inputs if float(inputs.sum()) > 0 else -inputs


def test_a_model_that_vmap_cannot_run_is_trained_one_by_one_or_refused():
    assert "vmap does not go through the model" in chosen(network(digits(), Branching())).reason
    with pytest.raises(ValueError, match='batching="batched" is not possible: torch'):
        chosen(network(digits(), Branching()), "batched")


def test_an_algorithm_that_is_not_made_for_it_is_trained_one_by_one():
    assert chosen(digits(), algorithm=OneByte()).reason.endswith("trains one client at a time")


def test_large_models_are_not_piled_up(monkeypatch):
    monkeypatch.setattr(choice, "MOST", 7 * 8 * 650)
    assert chosen(digits()).reason == "a model has 0 MiB of parameters"
    assert chosen(digits(), "batched").together == 2
    monkeypatch.setattr(choice, "MOST", 32 * 8 * 650)
    assert chosen(digits(), "batched").together == 32


def test_an_unknown_way_is_refused():
    with pytest.raises(ValueError, match='batching is \'fast\'; it is "auto", "batched" or "loop"'):
        chosen(digits(), "fast")


def test_a_trial_changes_no_weights():
    local = Local(batch_size=8, learning_rate=0.1)
    plain = federate(digits(), FedAvg(), rounds=2, local=local, batching="loop", test=False)
    worker, batched, tasks = prepared(digits(), local=local)
    before = [tensor.clone() for tensor in tasks[0].received.values()]
    choose("auto", worker, batched, tasks, number=1)
    assert all(map(torch.equal, before, tasks[0].received.values()))
    again = federate(digits(), FedAvg(), rounds=2, local=local, batching="auto", test=False)
    for one, other in zip(plain.model.parameters(), again.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-12)


def test_a_long_round_is_reckoned_from_a_few_steps():
    held, done = digits(train=200), []
    worker, batched, tasks = prepared(held, local=Local(steps=1000, learning_rate=0.01))
    train = worker.train

    def counted(task, *rest, **options):
        found = train(task, *rest, **options)
        done.append(int(found.side["steps"]))
        return found

    worker.train = counted
    seconds = Trial(worker, batched, 1).loop(tasks[:2])
    assert set(done) == {1, choice.STEPS}
    assert sum(done) <= 4 * (1 + choice.STEPS) + 1
    assert seconds > 0
