"""What every system of the room promises, found by its card."""

from importlib import import_module
from inspect import getdoc

import pytest
import torch
from tests.federated.small import Small, flat

from equipoise.aggregation import UPGrad
from equipoise.core.card import cards
from equipoise.federated import ByRule, Duplicate, Local, NotANumber, Participation, federate
from equipoise.federated.algorithm import Algorithm

CARDS = cards("federated")
LOCAL = Local(epochs=1, batch_size=5, learning_rate=0.1)


def system(name):
    """With the paper's defaults."""
    return ByRule(UPGrad()) if name == "ByRule" else getattr(import_module("equipoise.federated"), name)()


TOGETHER = [name for name in CARDS if system(name).client.batched]
WAYS = [(name, "loop") for name in CARDS] + [(name, "batched") for name in TOGETHER]
PERMUTING = [name for name, card in CARDS.items() if "PERMUTATION" in card.guarantees]
every_system = pytest.mark.parametrize("name", CARDS)


def run(name, rounds=3, *, way="loop", held=None, algorithm=None, **options):
    options = {"local": LOCAL, "test": False, "evaluate_every": 10} | options
    held = held or Small(network="mlp")
    return federate(held, algorithm or system(name), rounds=rounds, batching=way, **options)


def outputs(found):
    """The last iterate and every other model of a run, as one vector."""
    return torch.cat([flat(model) for model in (found.model, *found.outputs.values())])


@every_system
def test_it_is_an_algorithm_that_its_card_names(name):
    made = system(name)
    assert isinstance(made, Algorithm)
    assert CARDS[name].shape == "federated"
    assert getdoc(type(made))


@every_system
def test_it_trains_from_its_defaults_and_moves_the_model(name):
    found = run(name)
    assert [record.quarantined for record in found.history] == [{}] * 3
    assert all(record.up > 0 and record.down >= 0 for record in found.history)
    values = outputs(found)
    assert bool(values.isfinite().all())
    assert not torch.equal(values, outputs(run(name, 1)))


@pytest.mark.parametrize("name", TOGETHER)
def test_both_ways_of_training_agree(name):
    one, together = (run(name, way=way) for way in ("loop", "batched"))
    torch.testing.assert_close(outputs(together), outputs(one), rtol=1e-6, atol=1e-10)
    for ours, theirs in zip(one.history, together.history, strict=True):
        assert (ours.up, ours.down) == (theirs.up, theirs.down)
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-6)


@pytest.mark.parametrize(("name", "way"), WAYS)
def test_it_goes_on_from_a_folder_as_if_it_had_not_stopped(tmp_path, name, way):
    options = {"participation": Participation(count=3), "way": way}
    run(name, 1, out=tmp_path, **options)
    again, whole = run(name, 4, out=tmp_path, **options), run(name, 4, **options)
    assert torch.equal(outputs(again), outputs(whole))
    assert again.history[1:] == whole.history[1:]


@every_system
@pytest.mark.parametrize(
    "participation",
    [
        Participation(count=3),
        Participation(count=1),
        Participation(probability=0.4, dropout=0.3, effort=(0.3, 1.0)),
    ],
)
def test_some_clients_are_enough(name, participation):
    found = run(name, 4, participation=participation)
    assert bool(outputs(found).isfinite().all())
    assert [record.quarantined for record in found.history] == [{}] * 4


@every_system
def test_a_client_that_sends_nonsense_is_left_out(name):
    try:
        found = run(name, attacks={"c": NotANumber()})
    except ValueError:  # its clients send no number that could be none
        found = run(name, attacks={"c": Duplicate()})
    assert [list(record.quarantined) for record in found.history] == [["c"]] * 3
    assert bool(outputs(found).isfinite().all())


@pytest.mark.parametrize("name", PERMUTING)
def test_the_order_of_the_clients_does_not_count(name):
    one, other = (run(name, held=Small(network="mlp", names=names)) for names in ("abcde", "dbeac"))
    torch.testing.assert_close(outputs(other), outputs(one), rtol=1e-6, atol=1e-10)
    for ours, theirs in zip(one.history, other.history, strict=True):
        assert ours.weights == pytest.approx(theirs.weights, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("name", "way"), WAYS)
def test_nothing_that_is_handed_in_is_changed(name, way):
    """State, parameters and updates at the server; what is received, kept and told at the clients."""
    algorithm = system(name)
    server, client = algorithm.server, algorithm.client
    aggregate, receive, reply = server.aggregate, client.receive, client.reply
    held = []

    def hold(*parts):
        held.extend((part, {key: tensor.clone() for key, tensor in part.items()}) for part in parts)

    def at_server(state, round):
        hold(state, round.parameters, round.bundle.blocks, round.sent, round.side)
        return aggregate(state, round)

    def at_client(received, kept, context):
        if way == "loop":  # under vmap tensors have no values to look at
            hold(received, kept, context)
        return receive(received, kept, context)

    def after(parameters, view):
        if way == "loop":
            hold(parameters, view.anchor)
        return reply(parameters, view)

    server.aggregate, client.receive, client.reply = at_server, at_client, after
    run(name, algorithm=algorithm, way=way)
    assert len(held) >= 15
    for part, copies in held:
        assert list(part) == list(copies)
        for key, copy in copies.items():
            torch.testing.assert_close(part[key], copy, rtol=0, atol=0, equal_nan=True, msg=key)
