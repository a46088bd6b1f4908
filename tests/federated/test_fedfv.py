from math import ceil

import numpy as np
import pytest
from tests.federated.watched import answers, edges, invented, run, ways_agree

from equipoise.federated import FedFV, Participation


def written_out(updates, losses, alpha, past, tau):
    """Algorithms 1 to 3 on whole vectors; `past` has (update, rounds ago) of clients that are absent."""
    order = sorted(range(len(losses)), key=lambda i: losses[i])
    kept = order[ceil((len(order) - 1) * (1 - alpha) - 1e-9) :] if alpha else []
    changed = updates.copy()
    for i in range(len(updates)):
        for j in order:
            inner = changed[i] @ updates[j]
            if i not in kept and i != j and inner < 0:
                changed[i] = changed[i] - inner / (updates[j] @ updates[j]) * updates[j]
    found = changed.mean(0)
    for ago in range(tau, 0, -1):
        against = [old for old, age in past if age == ago and found @ old < 0]
        if against:
            total = np.sum(against, 0)
            found = found - min(found @ total, 0) / (total @ total) * total
    return found / np.linalg.norm(found) * np.linalg.norm(updates.mean(0))


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5])
def test_internal_conflicts_are_taken_out_in_the_order_of_the_algorithm(alpha):
    _, seen = run(FedFV(alpha=alpha, tau=0), 3)
    for one in seen:
        assert (one.updates @ one.updates.T).min() < 0
        wanted = written_out(one.updates, one.losses("loss"), alpha, [], 0)
        np.testing.assert_allclose(one.step, wanted, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("tau", [1, 3])
def test_external_conflicts_are_those_with_the_last_updates_of_absent_clients(tau):
    _, seen = run(FedFV(alpha=0.1, tau=tau), 6, participation=Participation(count=2), seed=1)
    last, met = {}, 0
    for number, one in enumerate(seen, 1):
        absent = [last[name] for name in last if name not in one.round.names and number > tau]
        past = [(update, number - then) for update, then in absent if number - then <= tau]
        wanted = written_out(one.updates, one.losses("loss"), 0.1, past, tau)
        without = written_out(one.updates, one.losses("loss"), 0.1, [], tau)
        met += not np.allclose(wanted, without)
        np.testing.assert_allclose(one.step, wanted, rtol=1e-8, atol=1e-12)
        last |= {name: (row, number) for name, row in zip(one.round.names, one.updates, strict=True)}
    assert met >= 2


def test_the_step_is_as_long_as_the_plain_mean():
    _, seen = run(FedFV(), 3, participation=Participation(count=3))
    for one in seen:
        assert np.linalg.norm(one.step) == pytest.approx(np.linalg.norm(one.updates.mean(0)))


def test_without_conflicts_it_is_the_plain_mean():
    updates = np.abs(np.random.default_rng(0).normal(size=(4, 5)))
    found = answers(FedFV(), invented(updates, [1.0, 2.0, 0.5, 3.0])).update["w"]
    np.testing.assert_allclose(found.numpy(), updates.mean(0), rtol=1e-12)


def test_two_clients_in_conflict_are_both_served():
    """Of two updates each without what is against the other, the mean conflicts with neither."""
    updates = np.array([[3.0, 0.0], [-1.0, 1.0]])
    found = answers(FedFV(alpha=0.0), invented(updates, [1.0, 2.0])).update["w"].numpy()
    assert (updates @ found >= 0).all()
    assert updates[1] @ updates.mean(0) < 0


def test_where_all_reply_the_past_has_no_part():
    one, other = (run(FedFV(tau=tau), 3)[1][-1].step for tau in (0, 5))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0])
def test_hard_rounds(alpha):
    edges(FedFV(alpha=alpha))


def test_both_ways_of_training_agree():
    ways_agree(FedFV())


@pytest.mark.parametrize("options", [{"alpha": 1.5}, {"alpha": -0.1}, {"tau": -1}, {"tau": 0.5}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is"):
        FedFV(**options)
