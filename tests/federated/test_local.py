"""The schedule of local training: which batches, what a step does."""

import pytest
import torch
from tests.federated.small import Small, dealt

from equipoise.federated import FedAvg, Local, Participation, federate
from equipoise.federated.engine.coordinator import first_model


def plan(local, count=10, seed=0, effort=1.0):
    return [batch.tolist() for batch in local.batches(count, torch.Generator().manual_seed(seed), effort)]


def test_an_epoch_goes_through_all_examples_once_in_an_order_of_its_own():
    found = plan(Local(epochs=3, batch_size=4))
    assert [len(batch) for batch in found] == [4, 4, 2] * 3
    epochs = [[row for batch in found[start : start + 3] for row in batch] for start in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_so_many_steps_begin_anew_as_often_as_it_takes():
    found = plan(Local(steps=5, batch_size=4))
    assert [len(batch) for batch in found] == [4, 4, 2, 4, 4]
    assert plan(Local(steps=2, epochs=9, batch_size=4)) == found[:2]


@pytest.mark.parametrize("size", [None, 10, 64])
def test_a_whole_batch_is_in_order(size):
    assert plan(Local(epochs=2, batch_size=size)) == [list(range(10))] * 2


@pytest.mark.parametrize(("effort", "steps"), [(1.0, 6), (0.5, 3), (0.34, 2), (0.01, 1)])
def test_an_effort_is_a_share_of_the_steps_and_one_at_least(effort, steps):
    local = Local(epochs=2, batch_size=4)
    assert plan(local, effort=effort) == plan(local)[:steps]


def test_the_rate_decays_from_round_to_round():
    local = Local(learning_rate=0.5, decay=0.9)
    assert [local.rate(number) for number in (1, 2, 3)] == pytest.approx([0.5, 0.45, 0.405])


@pytest.mark.parametrize("way", ["loop", "batched"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.9},
        {"weight_decay": 0.3},
        {"momentum": 0.7, "weight_decay": 0.1},
        {"clip": 0.2},
        {"clip": 0.5, "momentum": 0.5, "weight_decay": 0.01},
    ],
)
def test_local_steps_are_those_of_torchs_sgd(way, options):
    """Of whole batches, averaged by examples, written out with torch.optim.SGD."""
    local = Local(steps=4, batch_size=None, learning_rate=0.3, decay=0.5, **options)
    rest = {key: value for key, value in options.items() if key != "clip"}
    effort = {"a": 0.5}
    found = federate(
        Small(network="mlp"),
        FedAvg(),
        rounds=2,
        local=local,
        batching=way,
        participation=Participation(effort=effort),
        test=False,
    ).model.state_dict()
    model = first_model(Small(network="mlp"), FedAvg(), 0)
    center = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for number in (1, 2):
        mean = {name: torch.zeros_like(tensor) for name, tensor in center.items()}
        for place in range(5):
            images, labels = dealt(place, "train")
            model.load_state_dict(center)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.3 * 0.5 ** (number - 1), **rest)
            for _ in range(2 if place == 0 else 4):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(images), labels).backward()
                if "clip" in options:
                    length = sum(float((p.grad**2).sum()) for p in model.parameters()) ** 0.5
                    for parameter in model.parameters():
                        parameter.grad *= min(1, options["clip"] / length)
                optimizer.step()
            for name, tensor in model.state_dict().items():
                mean[name] += len(labels) / 50 * tensor
        center = mean
    for name, tensor in center.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"clip": 0.0}, "clip is 0"),
        ({"momentum": 1.0}, "momentum is 1"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"weight_decay": float("nan")}, "weight_decay is nan"),
        ({"epochs": 1.5}, "epochs is 1.5; it is a whole number, 1 or more"),
        ({"decay": 0.0}, "decay is 0"),
        ({"decay": -1.0}, "decay is -1"),
    ],
)
def test_what_is_out_of_range_is_refused(options, told):
    with pytest.raises(ValueError, match=told):
        Local(**options)
