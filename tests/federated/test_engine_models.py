"""Models of every kind: what they have besides parameters, and which of them train together."""

import pytest
import torch
from tests.federated.small import Small, dealt, flat

from equipoise.federated import FedAvg, Local, Participation, federate
from equipoise.federated.engine.coordinator import first_model
from equipoise.federated.engine.placed import buffers_of, parameters_of
from equipoise.federated.engine.task import Task
from equipoise.federated.engine.worker import Worker

LOCAL = Local(epochs=2, batch_size=6, learning_rate=0.1, momentum=0.5)


def run(network, batching="loop", *, local=LOCAL, rounds=2, dtype="float64", **options):
    held = Small(network=network, dtype=dtype)
    return federate(held, FedAvg(), rounds=rounds, local=local, batching=batching, test=False, **options)


@pytest.mark.parametrize("network", ["softmax", "mlp", "cnn", "tied", "frozen"])
@pytest.mark.parametrize(("dtype", "rounds", "tolerance"), [("float64", 2, 1e-6), ("float32", 1, 1e-4)])
def test_both_ways_train_it_alike(network, dtype, rounds, tolerance):
    one, together = (run(network, way, rounds=rounds, dtype=dtype) for way in ("loop", "batched"))
    torch.testing.assert_close(flat(together.model), flat(one.model), rtol=tolerance, atol=tolerance / 10)
    assert not torch.equal(
        flat(one.model), flat(first_model(Small(network=network, dtype=dtype), FedAvg(), 0))
    )


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("batchnorm", "0 (BatchNorm1d) keeps statistics of its batches"),
        ("dropout", "drops units at random"),
        ("functional", "vmap"),
    ],
)
def test_what_cannot_train_together_does_so_one_by_one_and_says_why(network, words):
    found = run(network, "auto")
    assert found.choice.together == 1
    assert words in found.choice.reason
    assert torch.equal(flat(found.model), flat(run(network, "loop").model))
    with pytest.raises(ValueError, match="is not possible"):
        run(network, "batched")


def test_statistics_of_batchnorm_are_averaged_by_examples():
    """One whole-batch step moves a running mean by a tenth of the client's mean: together, of all."""
    found = run("batchnorm", local=Local(steps=1, batch_size=None), rounds=1).model
    images = torch.cat([dealt(place, "train")[0] for place in range(5)])
    torch.testing.assert_close(found[0].running_mean, images.mean(0) / 10)


def test_bytes_count_buffers_both_ways_and_frozen_parameters_neither():
    numbers = 3 * 8  # examples, steps, loss
    record = run("batchnorm", rounds=1).history[0]
    assert record.down == 5 * 8 * (4 * 64 + 650)
    assert record.up == record.down + 5 * numbers
    record = run("frozen", rounds=1).history[0]
    assert record.down == 5 * 8 * 170
    assert record.up == record.down + 5 * numbers


def test_frozen_parameters_stay_as_they_are():
    found, first = run("frozen").model, first_model(Small(network="frozen"), FedAvg(), 0)
    assert torch.equal(found[0].weight, first[0].weight)
    assert not torch.equal(found[2].weight, first[2].weight)


def test_tied_weights_stay_tied_and_are_sent_once():
    found = run("tied")
    assert found.model.second.weight is found.model.first.weight
    assert found.history[0].down == 5 * 8 * (64 * 64 + 2 * 64 + 650)


@pytest.mark.parametrize("network", ["dropout", "functional"])
def test_random_units_depend_on_seed_client_and_round_alone(network):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = run(network)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(flat(first.model), flat(run(network).model))
    assert not torch.equal(flat(first.model), flat(run(network, seed=1).model))
    some = run(network, rounds=1, participation=Participation(probability={"a": 1e-9, "b": 1e-9}))
    assert some.history[0].loss == {name: run(network, rounds=1).history[0].loss[name] for name in "cde"}


@pytest.mark.parametrize("network", ["cumulative", "batchnorm", "dropout"])
def test_a_client_is_trained_the_same_whoever_was_trained_before(network):
    held = Small(network=network)
    model = first_model(held, FedAvg(), 0)
    parts = held, FedAvg(), model, LOCAL, 0
    tasks = [Task(name, parameters_of(model), buffers_of(model), {}, {}) for name in held.clients]
    used, fresh = Worker(*parts), Worker(*parts)
    for task in tasks:
        after = used.train(task, 1)
    alone = fresh.train(tasks[-1], 1)
    for name, tensor in alone.reply.update.items() | alone.buffers.items():
        assert torch.equal(tensor, {**after.reply.update, **after.buffers}[name]), name
