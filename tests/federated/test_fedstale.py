from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from tests.federated.watched import answers, digits, edges, invented, run, ways_agree

from equipoise.core.bundle import Bundle
from equipoise.federated import FedAvg, FedStale, FedVARP, Participation

CHANCES = {f"client-0{k}": chance for k, chance in enumerate((1.0, 0.9, 0.5, 0.3, 0.6))}
OFTEN = Participation(probability=CHANCES)


def rows_of(one):
    return [int(name[-1]) for name in one.round.names]


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_rounds_are_those_of_the_algorithm(beta):
    """Rodio and Neglia 2024: weights of all clients, once all have been seen."""
    clients = digits(split="quantity", alpha=1.0)
    _, seen = run(FedStale(beta=beta, learning_rate=0.9), 12, on=clients, participation=OFTEN)
    counts = np.array([len(clients.examples(name, "train")[0]) for name in clients.clients], float)
    chances = np.array(list(CHANCES.values()))
    last, met, checked = np.zeros((5, 650)), set(), 0
    for one in seen:
        rows = rows_of(one)
        met |= set(rows)
        known = np.array([counts[k] if k in met else counts[list(met)].mean() for k in range(5)])
        omega = known / known.sum()
        wanted = beta * omega @ last
        for k, update in zip(rows, one.updates, strict=True):
            wanted = wanted + omega[k] / chances[k] * (update - beta * last[k])
            last[k] = update
        np.testing.assert_allclose(one.step, 0.9 * wanted, rtol=1e-9, atol=1e-14)
        checked += len(met) == 5
    assert checked >= 3


def test_estimates_are_mean_intervals_of_rounds_before():
    """The interval rule of Wang and Ji, of which the authors' code takes the value from before the round."""
    clients = digits(split="iid")
    _, seen = run(FedStale(beta=0.0, chances="estimated"), 15, on=clients, participation=OFTEN)
    came = {k: [] for k in range(5)}
    for one in seen:
        rows, number = rows_of(one), one.round.number
        means = {k: np.mean(np.diff([0, *came[k]])) if came[k] else 1.0 for k in rows}
        np.testing.assert_allclose(one.outcome.weights, [means[k] / 5 for k in rows], rtol=1e-12)
        for k in rows:
            came[k].append(number)
    assert max(np.mean(np.diff([0, *times])) for times in came.values()) > 1.5


def test_the_expectation_is_the_mean_of_all_updates_for_every_beta():
    """Over all outcomes of the draw, each with its probability; beta changes the variance alone."""
    rng = np.random.default_rng(0)
    updates, everyone = rng.normal(size=(3, 2)), ("a", "b", "c")
    chances = np.array([1.0, 0.5, 0.2])
    before = updates + 0.2 * rng.normal(size=(3, 2))
    variance = {}
    for beta in (0.0, 0.5, 1.0):
        system = FedStale(beta=beta)
        state = answers(system, invented(before, [0.0] * 3)).state
        mean, square = np.zeros(2), 0.0
        for present in product([True, False], repeat=3):
            if not present[0]:
                continue
            rows = [k for k in range(3) if present[k]]
            probability = np.prod([chances[k] if present[k] else 1 - chances[k] for k in range(3)])
            round = invented(updates[rows], [0.0] * len(rows), everyone=everyone)
            bundle = Bundle([everyone[k] for k in rows], round.bundle.blocks)
            round = replace(round, bundle=bundle, chances=torch.from_numpy(chances[rows]))
            step = answers(system, round, state).update["w"].numpy()
            mean += probability * step
            square += probability * (step - updates.mean(0)) @ (step - updates.mean(0))
        np.testing.assert_allclose(mean, updates.mean(0), rtol=1e-12)
        variance[beta] = square
    assert variance[1.0] < variance[0.5] < variance[0.0]


def test_its_ends_are_fedavg_and_fedvarp():
    _, everybody = run(FedStale(beta=0.7), 2)
    _, plain = run(FedAvg(), 2)
    np.testing.assert_allclose(everybody[1].step, plain[1].step, rtol=1e-9, atol=1e-15)
    two = Participation(count=2)
    _, whole = run(FedStale(beta=1.0), 5, on=digits(split="iid"), participation=two)
    _, varp = run(FedVARP(), 5, on=digits(split="iid"), participation=two)
    for one, other in zip(whole, varp, strict=True):
        np.testing.assert_allclose(one.step, other.step, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("chances", ["known", "estimated"])
def test_hard_rounds(chances):
    edges(FedStale(chances=chances))


def test_both_ways_of_training_agree():
    ways_agree(FedStale())


@pytest.mark.parametrize(
    ("options", "told"),
    [({"beta": 1.1}, "beta is 1.1"), ({"learning_rate": 0}, "learning_rate is 0"), ({"chances": "x"}, "x")],
)
def test_what_is_out_of_range_is_refused(options, told):
    with pytest.raises(ValueError, match=told):
        FedStale(**options)
