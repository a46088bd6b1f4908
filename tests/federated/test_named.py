"""Systems and rules by text."""

import pytest

from equipoise.core.card import cards
from equipoise.federated import ByRule, FedAvg, FedProx
from equipoise.federated.named import algorithm, systems


@pytest.mark.parametrize("text", ["FedAvg", "fedavg", " FEDAVG "])
def test_a_system_in_any_case(text):
    assert type(algorithm(text)) is FedAvg


def test_options_are_read_as_yaml():
    made = algorithm("fedprox:mu=0.25")
    assert type(made) is FedProx
    assert made.client.mu == 0.25


@pytest.mark.parametrize("name", ["UPGrad", "tchebycheff", "graddrop"])
def test_a_rule_stands_at_the_server(name):
    made = algorithm(name)
    assert type(made) is ByRule
    assert type(made.server.rule).__name__.lower() == name.lower()


def test_all_systems_and_rules_are_known():
    known = systems()
    assert set(cards("federated")) - {"ByRule"} <= set(known)  # which is what a rule becomes
    assert {"MGDA", "Tchebycheff", "GradDrop"} <= set(known)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fedagv", "no federated system or rule is called 'fedagv'.*FedAvg"),
        ("fedprox:nu=1", "no option is called 'nu'.*mu"),
        ("fedprox:mu", "'mu' is no option"),
        ("fedprox:mu=-1", "mu is -1"),
    ],
)
def test_what_is_not_known_is_refused_with_what_is(text, told):
    with pytest.raises(ValueError, match=told):
        algorithm(text)
