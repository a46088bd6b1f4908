"""Clients trained together: the weights are those of one after the other."""

import pytest
import torch
from tests.federated.watched import digits

from equipoise.federated import SCAFFOLD, FedAvg, FedGTST, FedProx, FedSR, Local, Participation, federate
from equipoise.federated.engine.batched import Batched, Layout
from equipoise.federated.engine.coordinator import first_model
from equipoise.federated.engine.placed import parameters_of
from equipoise.federated.engine.task import Task
from equipoise.federated.engine.worker import Worker

UNEQUAL = {"split": "quantity", "alpha": 1.0, "train": 120, "network": "mlp"}
LOCAL = Local(epochs=2, batch_size=8, learning_rate=0.1)


def weights(algorithm, way, local=LOCAL, *, rounds=2, **options):
    """The flat model after some rounds on clients with unequal shares."""
    dtype = options.pop("dtype", "float64")
    held = digits(**UNEQUAL, dtype=dtype)
    finished = federate(held, algorithm, rounds=rounds, local=local, batching=way, test=False, **options)
    return torch.cat([p.detach().flatten() for p in finished.model.parameters()])


def prepared(**options):
    """A worker and a batched engine of the same clients, and a task for each."""
    held, algorithm, local = digits(**(UNEQUAL | options)), FedAvg(), LOCAL
    held.prepare()
    model = first_model(held, algorithm, 0)
    sent = parameters_of(model)
    tasks = [Task(name, sent, {}, {}, {}) for name in held.clients]
    parts = held, algorithm, model, local, 0
    return Worker(*parts), Batched(*parts), tasks


@pytest.mark.parametrize("algorithm", [FedAvg, FedProx, FedSR, FedGTST, SCAFFOLD])
def test_clients_together_end_where_they_do_one_after_the_other(algorithm):
    one, together = (weights(algorithm(), way) for way in ("loop", "batched"))
    torch.testing.assert_close(together, one, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.9},
        {"weight_decay": 0.1},
        {"clip": 0.3},
        {"batch_size": None},
        {"steps": 7, "decay": 0.5},
    ],
)
def test_every_setting_of_local_training_is_the_same_in_both_ways(options):
    local = Local(**({"epochs": 2, "batch_size": 8, "learning_rate": 0.1} | options))
    one, together = (weights(FedAvg(), way, local) for way in ("loop", "batched"))
    torch.testing.assert_close(together, one, rtol=1e-6, atol=1e-12)


def test_unequal_efforts_and_absent_clients_are_the_same_in_both_ways():
    local = Local(epochs=3, batch_size=8, learning_rate=0.1, momentum=0.9)
    some = Participation(count=4, effort=(0.1, 1.0), dropout=0.2)
    one, together = (weights(SCAFFOLD(), way, local, participation=some) for way in ("loop", "batched"))
    torch.testing.assert_close(together, one, rtol=1e-6, atol=1e-12)


def test_float32_agrees_within_its_precision():
    one, together = (weights(FedAvg(), way, rounds=1, dtype="float32") for way in ("loop", "batched"))
    torch.testing.assert_close(together, one)


def test_chunks_of_any_size_give_the_same_replies_in_the_order_of_the_tasks():
    worker, batched, tasks = prepared()
    asked = [tasks[i] for i in (3, 0, 4, 1, 2)]
    expected = worker.train_all(asked, 1)
    assert expected.names == tuple(task.client for task in asked)
    for together in (2, 3, 5):
        found = batched.train_all(asked, 1, together)
        assert found.names == expected.names
        assert torch.equal(found.side["steps"], expected.side["steps"])
        torch.testing.assert_close(found.side["loss_during"], expected.side["loss_during"], rtol=1e-9, atol=0)
        for name, rows in expected.update.items():
            torch.testing.assert_close(found.update[name], rows, rtol=1e-6, atol=1e-12)


def test_the_memory_of_a_round_is_not_written_to_while_someone_has_it():
    worker, batched, tasks = prepared(dtype="float32", train=1000, client_count=80)
    for train in (lambda n: worker.train_all(tasks, n), lambda n: batched.train_all(tasks, n, 16)):
        first = train(1)
        row, copies = first.update["1.weight"][3], first.update["1.weight"][3].clone()
        assert first.update["1.weight"].nbytes >= 2**20
        place = first.update["1.weight"].data_ptr()
        del first
        for number in (2, 3):
            second = train(number)
            assert second.update["1.weight"].data_ptr() != place
        assert torch.equal(row, copies)
        place = second.update["1.weight"].data_ptr()
        del second
        assert train(4).update["1.weight"].data_ptr() == place


def test_what_is_received_is_not_changed_by_training():
    _, batched, tasks = prepared()
    before = {name: tensor.clone() for name, tensor in tasks[0].received.items()}
    batched.train(tasks, 1)
    assert all(torch.equal(tasks[0].received[name], tensor) for name, tensor in before.items())


def test_a_client_without_examples_is_named():
    _, batched, tasks = prepared()
    batched.hold()
    batched._counts[tasks[2].client] = 0
    with pytest.raises(ValueError, match=f"client '{tasks[2].client}' has no training examples"):
        batched.train_all(tasks, 1, 8)


def test_a_layout_pads_to_the_longest_batch_of_those_that_go_on():
    plans = [[torch.tensor([1])], [torch.tensor([0, 1]), torch.tensor([2])]]
    layout = Layout(plans, [0, 10])
    index, filled = layout.rows(0)
    assert index.tolist() == [[1, 1], [10, 11]]
    assert filled is not None
    assert filled.tolist() == [[True, False], [True, True]]
    index, filled = layout.rows(1)
    assert index.tolist() == [[12]]
    assert filled is None
    assert (layout.first(0), layout.first(1)) == (0, 1)
