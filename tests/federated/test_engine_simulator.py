"""The simulator: repeats, failing clients, what clients keep, rounds with nobody."""

import re
from dataclasses import dataclass

import pytest
import torch
from tests.federated.small import Small, dealt, flat

from equipoise.federated import (
    SCAFFOLD,
    ByRule,
    ClientAlgorithm,
    Duplicate,
    FedAvg,
    Local,
    NotANumber,
    NoUpdates,
    Participation,
    Reply,
    Silent,
    federate,
)
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.engine.coordinator import Coordinator
from equipoise.federated.engine.simulator import Simulator
from equipoise.scalarization import Tchebycheff

LOCAL = Local(epochs=1, batch_size=5, learning_rate=0.1)
WAYS = pytest.mark.parametrize("way", ["loop", "batched"])


def run(held=None, algorithm=None, *, rounds=3, way="loop", **options):
    options = {"local": LOCAL, "test": False} | options
    return federate(held or Small(), algorithm or FedAvg(), rounds=rounds, batching=way, **options)


@WAYS
def test_a_seed_and_a_way_give_the_same_bits_again(way):
    options = {
        "participation": Participation(fraction=0.6, dropout=0.2, effort=(0.3, 1.0)),
        "local": Local(epochs=2, batch_size=4, learning_rate=0.1, momentum=0.5, clip=1.0),
    }
    first, again, other = (run(way=way, seed=seed, rounds=4, **options) for seed in (3, 3, 4))
    assert torch.equal(flat(first.model), flat(again.model))
    assert first.history == again.history
    assert not torch.equal(flat(first.model), flat(other.model))


def test_the_global_generator_is_left_alone_and_has_no_say():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = run()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(1)
    assert torch.equal(flat(first.model), flat(run().model))


@pytest.mark.parametrize("way", ["loop", "batched", "auto"])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"broken": "b"}, "OSError: the disk of b is gone"),
        ({"spoilt": "b"}, "IndexError: Target 9. is out of bounds."),
        ({"empty": "b"}, "ValueError: client 'b' has no training examples"),
    ],
)
def test_a_client_whose_training_raises_is_named_and_the_others_go_on(way, fault, reason):
    found = run(Small(**fault), way=way)
    for record in found.history:
        assert record.lost == ()
        assert list(record.quarantined) == ["b"]
        assert re.fullmatch(reason, record.quarantined["b"])
        assert set(record.loss) == set("acde")
    without = run(way=way, participation=Participation(probability={"b": 1e-9}))
    assert all("b" not in record.asked for record in without.history)
    torch.testing.assert_close(flat(found.model), flat(without.model), rtol=1e-9, atol=1e-12)


def test_the_others_still_train_together_beside_a_client_that_fails():
    found = run(Small(spoilt="a"), way="batched")
    assert found.choice.together > 1
    assert [list(record.quarantined) for record in found.history] == [["a"]] * 3


def test_what_is_not_a_number_at_one_client_does_not_reach_another():
    """Batches are padded, and padding is not of another client."""
    found = run(Small(poisoned="a"), way="batched", local=Local(epochs=2, batch_size=None))
    assert [dict(record.quarantined) for record in found.history] == [
        {"a": "update 'weight' is not finite"}
    ] * 3
    without = run(
        way="batched",
        local=Local(epochs=2, batch_size=None),
        participation=Participation(probability={"a": 1e-9}),
    )
    torch.testing.assert_close(flat(found.model), flat(without.model), rtol=1e-9, atol=1e-12)


def test_examples_that_cannot_be_had_are_left_out_of_what_is_judged():
    found = run(Small(broken="c"), test=True)
    assert list(found.test["last"]) == list("abde")
    assert list(found.history[-1].judged) == list("abde")


def test_where_every_client_raises_the_run_ends_from_the_first_error():
    with pytest.raises(
        NoUpdates, match=r"round 1: no update can be used\. a: OSError: .*; e: OSError"
    ) as raised:
        run(Small(broken="abcde"), way="auto")
    assert isinstance(raised.value.__cause__, OSError)


@dataclass
class Recovering(Small):
    """Client "a" cannot be read for a while."""

    looks: int = 0

    def examples(self, client, split):
        if (client, split) == ("a", "train"):
            self.looks += 1
            if self.looks < 4:
                raise OSError("not yet")
        return super().examples(client, split)


@WAYS
def test_a_client_that_recovers_takes_part_again(way):
    history = run(Recovering(), rounds=6, way=way).history
    assert list(history[0].quarantined) == ["a"]
    assert history[-1].quarantined == {}
    assert set(history[-1].loss) == set("abcde")


@WAYS
@pytest.mark.parametrize("attack", [NotANumber(), Duplicate(), Silent()])
def test_a_client_whose_reply_does_not_count_keeps_what_it_had(way, attack):
    coordinator = Coordinator(Small(), SCAFFOLD(), local=LOCAL, rounds=2)
    simulator = Simulator(coordinator, batching=way, attacks={"b": attack})
    record = simulator.round()
    assert ("b" in record.lost) == isinstance(attack, Silent)
    assert ("b" in record.quarantined) != isinstance(attack, Silent)
    changed = [any(bool(rows[i].any()) for rows in simulator.kept.values()) for i in range(5)]
    assert changed == [True, False, True, True, True]
    assert all(tensor.isfinite().all() for tensor in simulator.kept.values())


@WAYS
def test_a_round_with_nobody_leaves_the_model_as_it_is(way):
    participation = Participation(probability=1e-6)
    history = run(way=way, rounds=3, seed=0, participation=participation).history
    assert [record.asked for record in history] == [()] * 3
    lonely = run(way=way, rounds=3, participation=Participation(dropout=0.999))
    assert [record.lost for record in lonely.history] == [tuple("abcde")] * 3
    first = Coordinator(Small(), FedAvg()).placed(Coordinator(Small(), FedAvg()).parameters)
    assert torch.equal(flat(lonely.model), flat(first))
    assert lonely.history[0].up == 0
    assert lonely.history[0].down == 5 * 650 * 8


def test_bytes_are_those_of_the_tensors_sent_and_of_the_replies_that_counted():
    record = run(rounds=1, participation=Participation(count=3), attacks={"a": NotANumber()}, seed=1).history[
        0
    ]
    assert "a" in record.asked
    assert record.down == 3 * 650 * 8
    assert record.up == 2 * (650 * 8 + 3 * 8)
    record = run(algorithm=ByRule(Tchebycheff()), rounds=1, way="batched").history[0]
    assert record.up == 5 * (650 * 8 + 4 * 8)


class Own(ClientAlgorithm):
    """Trains what it has itself, whatever it is sent."""

    def start(self, parameters):
        return {f"own/{name}": torch.ones_like(tensor) for name, tensor in parameters.items()}

    def receive(self, received, kept, context):
        return {name: kept[f"own/{name}"] for name in received}

    def reply(self, parameters, view):
        plain = super().reply(parameters, view)
        return Reply(plain.update, {}, {f"own/{name}": tensor for name, tensor in parameters.items()})


@WAYS
def test_losses_that_the_server_asks_for_are_of_the_model_that_the_client_starts_from(way):
    """With all weights the same every class is as likely, and the loss is log 10."""
    seen = []
    algorithm = Algorithm(Own(), ByRule(Tchebycheff()).server)
    aggregate = algorithm.server.aggregate

    def watched(state, round):
        seen.append(round.side["loss"])
        return aggregate(state, round)

    algorithm.server.aggregate = watched
    run(algorithm=algorithm, way=way, rounds=1)
    torch.testing.assert_close(seen[0], torch.full((5,), 10.0, dtype=torch.float64).log())


@WAYS
def test_losses_asked_for_are_the_means_over_a_clients_examples(way):
    seen = []
    algorithm = ByRule(Tchebycheff())
    aggregate = algorithm.server.aggregate

    def watched(state, round):
        seen.append((round.parameters, round.side["loss"]))
        return aggregate(state, round)

    algorithm.server.aggregate = watched
    run(algorithm=algorithm, way=way, rounds=2)
    for parameters, losses in seen:
        for place, loss in enumerate(losses.tolist()):
            images, labels = dealt(place, "train")
            logits = images @ parameters["weight"].T + parameters["bias"]
            assert loss == pytest.approx(float(torch.nn.functional.cross_entropy(logits, labels)), rel=1e-12)


@pytest.mark.parametrize("way", ["quick", "", None])
def test_an_unknown_way_is_refused(way):
    with pytest.raises(ValueError, match="batching"):
        run(way=way)


def test_auto_says_what_it_took_and_why():
    choice = run(way="auto").choice
    assert "in a trial of" in choice.reason
    assert (choice.together > 1) == ("times as fast as one after the other" in choice.reason)
    assert choice.seconds > 0
    assert run(Small(names="a"), way="auto").choice.reason == "there is one client"
