"""Any rule of the library at the server: what it does there is what it does to explicit gradients."""

from copy import deepcopy
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from tests.federated.small import Small, flat
from torch import nn

from equipoise import backward
from equipoise.aggregation import DBMTL, MGDA, CAGrad, GradDrop, Krum, Mean, PCGrad, UPGrad
from equipoise.core.card import RULE_ROOMS, RULE_SHAPES, cards
from equipoise.core.rule import GramianRule, RowRule, RowTransform, Scalarizer
from equipoise.core.step import Step
from equipoise.federated import ByRule, FedAvg, Local, Participation, federate
from equipoise.federated.byrule import LossRuleServer
from equipoise.federated.engine.coordinator import Coordinator
from equipoise.federated.engine.simulator import Simulator
from equipoise.scalarization import FAMO, Linear, Tchebycheff, UncertaintyWeighting

LOCAL = Local(steps=2, batch_size=4, learning_rate=0.2)
RULES = {name: room for room in RULE_ROOMS for name, card in cards(room).items() if card.shape in RULE_SHAPES}


def rule_of(name):
    return kind_of(name)()


def kind_of(name):
    return getattr(import_module(f"equipoise.{RULES[name]}"), name)


def seen_rounds(algorithm, rounds=3, *, participation=None, network="softmax", **options):
    """Every round and what was made of it."""
    seen, aggregate = [], algorithm.server.aggregate

    def watched(state, round):
        outcome = aggregate(state, round)
        seen.append((state, round, outcome))
        return outcome

    algorithm.server.aggregate = watched
    coordinator = Coordinator(Small(network=network), algorithm, local=LOCAL, participation=participation)
    simulator = Simulator(coordinator, batching="loop")
    for _ in range(rounds):
        simulator.round()
    return seen


class Explicit:
    """The rule on losses that are straight lines, client k's with the slope w - w_k, by `backward`."""

    def __init__(self, rule, preference=None):
        self.rule = deepcopy(rule)
        self.preference = preference
        self.before = None

    def direction(self, round):
        losses = round.side["loss" if "loss" in round.side else "loss_during"]
        if self.rule.needs_losses_after and self.before is not None:
            after = dict(zip(round.names, losses, strict=True))
            again = [name for name in self.before.names if name in after]
            held = [self.before.losses[self.before.names.index(name)] for name in again]
            self.rule.update(Step(tuple(again), torch.stack(held), None), {n: after[n] for n in again})
        if isinstance(self.rule, RowRule):  # whose draws depend on the name of a block
            found = {
                name: self.rule(-rows.flatten(1), **named(self.rule, name))
                for name, rows in round.bundle.items()
            }
            self.rule.update(Step(round.names, losses, None))
            return {
                name: direction.reshape(round.parameters[name].shape) for name, direction in found.items()
            }
        places = nn.ParameterDict(
            {n: nn.Parameter(torch.zeros_like(rows[0])) for n, rows in round.bundle.items()}
        )
        lines = {
            name: losses[i].clone()
            + sum((places[block] * -rows[i]).sum() for block, rows in round.bundle.items())
            for i, name in enumerate(round.names)
        }
        step = backward(lines, self.rule, parameters=dict(places.items()), preference=self.preference)
        with torch.no_grad():
            for parameter in self.rule.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
                    parameter.grad = None
        self.before = step
        if not self.rule.needs_losses_after:
            self.rule.update(step)
        return {name: parameter.grad for name, parameter in places.items()}


def named(rule, block):
    return {"block": block} if rule.uses("block") else {}


def agree(outcome, direction, rate=1.0):
    length = max(float(tensor.abs().max()) for tensor in direction.values())
    for name, tensor in direction.items():
        torch.testing.assert_close(outcome.update[name], -rate * tensor, rtol=1e-6, atol=1e-9 * length)


@pytest.mark.parametrize("name", RULES)
def test_the_update_is_what_the_rule_makes_of_explicit_gradients(name):
    """Three rounds of four of the five clients, so that state by name counts."""
    rule = rule_of(name)
    learns = any(True for _ in rule.parameters())
    explicit = Explicit(kind_of(name)(objectives=tuple("abcde")) if learns else rule)
    for _, round, outcome in seen_rounds(ByRule(rule), participation=Participation(count=4)):
        agree(outcome, explicit.direction(round))
        assert all(tensor.isfinite().all() for tensor in outcome.update.values())


@pytest.mark.parametrize("name", RULES)
def test_the_rule_that_was_handed_in_and_the_state_are_left_as_they_were(name):
    rule = rule_of(name)
    before = deepcopy(rule.state_dict())
    algorithm = ByRule(rule)
    own = deepcopy(algorithm.server.rule.state_dict())
    states = [
        (state, {key: tensor.clone() for key, tensor in state.items()}, round)
        for state, round, _ in seen_rounds(algorithm)
    ]
    for found, held in ((rule.state_dict(), before), (algorithm.server.rule.state_dict(), own)):
        assert list(found) == list(held)
        assert all(torch.equal(found[key], held[key]) for key in held)
    for state, copy, round in states:
        torch.manual_seed(0)
        first = algorithm.server.aggregate(state, round)
        torch.manual_seed(1)
        again = algorithm.server.aggregate(state, round)
        for key, tensor in copy.items():
            torch.testing.assert_close(state[key], tensor, rtol=0, atol=0, equal_nan=True)
        assert all(torch.equal(first.update[key], again.update[key]) for key in first.update)


STATEFUL = [
    "DBMTL",
    "DWA",
    "ExcessMTL",
    "FAMO",
    "GradDrop",
    "GradNorm",
    "GradVac",
    "IMTLL",
    "MoCo",
    "OMDTchebycheff",
]


@pytest.mark.parametrize("name", [name for name in STATEFUL if name in RULES])
def test_a_stateful_rule_goes_on_from_a_folder(tmp_path, name):
    def run(rounds, out):
        options = {"local": LOCAL, "batching": "loop", "test": False}
        held = Participation(count=4)
        return federate(Small(), ByRule(rule_of(name)), rounds=rounds, out=out, participation=held, **options)

    run(2, tmp_path)
    assert torch.equal(flat(run(5, tmp_path).model), flat(run(5, None).model))


@pytest.mark.parametrize("name", RULES)
def test_a_rule_whose_state_depends_on_losses_is_given_those_that_clients_measure(name):
    rule = rule_of(name)
    names, gramian = ("a", "b", "c"), torch.eye(3, dtype=torch.float64)
    weights = torch.full((3,), 1 / 3, dtype=torch.float64)
    found = []
    for losses in ([0.5, 0.2, 0.1], [0.1, 0.9, 0.4]):
        one = deepcopy(rule)
        measured = torch.tensor(losses, dtype=torch.float64)
        step = Step(names, measured, weights, gramian)
        if isinstance(one, Scalarizer):
            one.apply_to(measured, losses=measured, names=names)
        after = dict(zip(names, measured / 2, strict=True))
        one.update(step, after)
        found.append({key: value.tolist() for key, value in one.state_dict().items()})
    if found[0] != found[1]:
        assert isinstance(ByRule(rule).server, LossRuleServer)


def test_the_rate_of_the_server_scales_the_update():
    explicit = Explicit(UPGrad())
    for _, round, outcome in seen_rounds(ByRule(UPGrad(), learning_rate=0.3), 1):
        agree(outcome, explicit.direction(round), 0.3)


def test_the_mean_with_shares_of_examples_is_fedavg():
    options = {"local": LOCAL, "rounds": 3, "test": False}
    weighted = federate(Small(), ByRule(Linear(), preference="samples"), **options)
    average = federate(Small(), FedAvg(), **options)
    torch.testing.assert_close(flat(weighted.model), flat(average.model), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("rule", [Linear(), Tchebycheff(), PCGrad(), CAGrad()])
def test_a_preference_by_name_is_that_of_the_rule(rule):
    given = {"a": 5.0, "b": 1.0, "c": 2.0, "d": 1.0, "e": 1.0}
    if not rule.uses("preference"):
        with pytest.raises(ValueError, match="takes no preference"):
            ByRule(rule, preference=given)
        return
    explicit = Explicit(rule, {name: value / 10 for name, value in given.items()})
    for _, round, outcome in seen_rounds(ByRule(rule, preference=given), 1):
        agree(outcome, explicit.direction(round))


def test_a_preference_is_renewed_among_those_that_reply():
    given = dict.fromkeys("abcde", 1.0) | {"a": 3.0}
    seen = seen_rounds(ByRule(Linear(), preference=given), participation=Participation(count=3))
    for _, round, outcome in seen:
        shares = torch.tensor([given[name] for name in round.names], dtype=torch.float64)
        torch.testing.assert_close(outcome.weights, shares / shares.sum())


def test_a_preference_that_lacks_a_client_is_refused_by_name():
    with pytest.raises(ValueError, match="preference lacks 'e'"):
        seen_rounds(ByRule(Linear(), preference=dict.fromkeys("abcd", 1.0)), 1)


@pytest.mark.parametrize(
    ("thing", "error"), [("UPGrad", TypeError), (UPGrad, TypeError), (RowTransform(), TypeError)]
)
def test_what_is_no_rule_is_refused(thing, error):
    with pytest.raises(error, match="ByRule takes a GramianRule, RowRule or Scalarizer"):
        ByRule(thing)


@pytest.mark.parametrize(
    ("options", "told"), [({"learning_rate": 0}, "learning_rate is 0"), ({"own_rate": -1}, "own_rate is -1")]
)
def test_rates_are_above_zero(options, told):
    with pytest.raises(ValueError, match=told):
        ByRule(UPGrad(), **options)


def test_learnable_weights_move_down_their_loss():
    seen = seen_rounds(ByRule(UncertaintyWeighting(objectives=tuple("abcde")), own_rate=0.5), 4)
    states = [state for state, _, _ in seen]
    moved = [key for key in states[0] if states[0][key].is_floating_point()]
    assert any(not torch.equal(states[0][key], states[-1][key]) for key in moved)


def test_famo_compares_the_losses_of_clients_that_reply_in_two_rounds():
    """Its logits move only once a client has replied twice running."""
    seen = seen_rounds(ByRule(FAMO()), 4, participation=Participation(count=3))
    explicit = Explicit(FAMO())
    for _, round, outcome in seen:
        agree(outcome, explicit.direction(round))
    assert any(key.endswith("before") for key in seen[-1][0])


@pytest.mark.parametrize("rule", [UPGrad(), Krum(), GradDrop(), DBMTL(), Tchebycheff(), Mean(), MGDA()])
def test_a_single_reply_equal_ones_and_none_at_all_are_taken(rule):
    _, round, _ = seen_rounds(ByRule(rule), 1)[0]
    server = ByRule(rule).server
    state = server.start(round.parameters, round.everyone)
    alone = replace(
        round,
        bundle=round.bundle.subset(("c",)),
        side={key: value[2:3] for key, value in round.side.items()},
        chances=round.chances[2:3],
    )
    found = server.aggregate(state, alone).update
    row = {name: rows[2] for name, rows in round.bundle.items()}
    factor = float(found["weight"].flatten() @ row["weight"].flatten()) / float(row["weight"].square().sum())
    assert factor > 0 or isinstance(rule, GradDrop)
    zeros = type(round.bundle)(round.names, {name: 0 * rows for name, rows in round.bundle.items()})
    still = server.aggregate(state, replace(round, bundle=zeros)).update
    assert all(not tensor.any() for tensor in still.values())


def test_a_gramian_rule_reads_the_updates_without_turning_each_round():
    """The Gramian of the updates is that of their opposites, so nothing is copied for the sign."""
    seen = seen_rounds(ByRule(MGDA()), 1)
    _, round, outcome = seen[0]
    assert isinstance(MGDA(), GramianRule)
    expected = round.bundle.combine(MGDA()(round.bundle.gramian()))
    assert all(torch.equal(outcome.update[name], expected[name]) for name in expected)
