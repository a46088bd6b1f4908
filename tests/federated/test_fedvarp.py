from itertools import combinations

import numpy as np
import pytest
from tests.federated.watched import answers, edges, flat, invented, run, ways_agree

from equipoise.federated import FedVARP, Participation


def test_rounds_with_absent_clients_are_those_of_the_algorithm():
    """FedVARP of Jhunjhunwala et al. 2022, two of five clients in a round."""
    _, seen = run(FedVARP(learning_rate=0.9), 6, participation=Participation(count=2))
    last = np.zeros((5, 650))
    for one in seen:
        rows = [int(name[-1]) for name in one.round.names]
        wanted = (one.updates - last[rows]).mean(0) + last.mean(0)
        np.testing.assert_allclose(one.step, 0.9 * wanted, rtol=1e-10, atol=1e-15)
        last[rows] = one.updates
        np.testing.assert_array_equal(flat(one.outcome.state, rows=True), last)


def test_with_everybody_it_is_the_even_mean():
    _, seen = run(FedVARP(), 3)
    for one in seen:
        np.testing.assert_allclose(one.step, one.updates.mean(0), rtol=1e-9, atol=1e-15)


def test_over_all_draws_it_is_the_mean_of_all_updates_and_varies_less_than_without_memory():
    """Where updates are those of the round before, every draw gives the mean of all, exactly."""
    updates = np.random.default_rng(0).normal(size=(4, 3))
    old = updates + 0.1 * np.random.default_rng(1).normal(size=(4, 3))
    everyone = ("a", "b", "c", "d")
    system, found = FedVARP(), {}
    for name, before in {"near": old, "same": updates, "none": None}.items():
        state = None
        if before is not None:
            state = answers(system, invented(before, [0.0] * 4)).state
        drawn = []
        for rows in combinations(range(4), 2):
            round = invented(updates[list(rows)], [0.0, 0.0], everyone=everyone)
            names = tuple(everyone[row] for row in rows)
            round.bundle.names = names
            drawn.append(answers(system, round, state).update["w"].numpy())
        np.testing.assert_allclose(np.mean(drawn, 0), updates.mean(0), rtol=1e-12, atol=1e-15)
        found[name] = np.var(drawn, 0).sum()
    assert found["same"] < 1e-25
    assert found["near"] < 0.1 * found["none"]


def test_hard_rounds():
    edges(FedVARP())


def test_both_ways_of_training_agree():
    ways_agree(FedVARP())


def test_a_learning_rate_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="learning_rate is 0"):
        FedVARP(learning_rate=0)
