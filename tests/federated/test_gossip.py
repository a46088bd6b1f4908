import numpy as np
import pytest
import torch
from tests.federated.watched import answers, digits, edges, flat, invented, run, ways_agree

from equipoise.federated import FedAvg, Gossip, Participation


def models(state):  # -> (m, d)
    return flat({name: t for name, t in state.items() if name.startswith("models/")}, rows=True)


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_models_move_and_meet_in_pairs_and_their_mean_is_the_model(probability):
    """W <- M (W + D) with a mixing matrix of pairs, doubly stochastic and its own square."""
    done, seen = run(Gossip(probability=probability), 5)
    met = 0
    for one in seen:
        before, after = models(one.state) + one.updates, models(one.outcome.state)
        mixing = np.eye(5)
        for i in range(5):
            for j in range(i):
                if np.allclose(after[i], (before[i] + before[j]) / 2, rtol=1e-12, atol=1e-14):
                    mixing[[i, i, j, j], [i, j, i, j]] = 0.5
                    met += 1
        np.testing.assert_allclose(after, mixing @ before, rtol=1e-12, atol=1e-14)
        np.testing.assert_array_equal(mixing.sum(0), 1)
        merged = flat(one.round.parameters) + one.step
        np.testing.assert_allclose(merged, after.mean(0), rtol=1e-12, atol=1e-14)
        assert one.outcome.notes["pairs"] == round(np.trace(np.eye(5) - mixing))
    assert met == sum(one.outcome.notes["pairs"] for one in seen)
    assert (met == 10) if probability == 1 else (met == 0) if not probability else 0 < met < 10
    merged = np.concatenate([p.detach().flatten() for p in done.outputs["merged"].parameters()])
    np.testing.assert_allclose(merged, models(seen[-1].outcome.state).mean(0), rtol=1e-9)


def test_one_round_alone_and_a_merge_are_a_round_of_averaging():
    """One local round each, then the mean of all: what a server does, where clients are of one size."""
    apart, _ = run(Gossip(probability=0.0), 1, on=digits(split="iid"))
    server, _ = run(FedAvg(), 1, on=digits(split="iid"))
    for one, two in zip(apart.model.parameters(), server.model.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-13)


def test_clients_are_judged_by_their_own_models_and_the_merge_beside_them():
    done, seen = run(Gossip(probability=0.0), 3, test=True)
    own = models(seen[-1].outcome.state)
    assert len(np.unique(own.round(9), axis=0)) == 5
    losses = {name: [one["loss"] for one in judged.values()] for name, judged in done.test.items()}
    assert set(losses) == {"last", "merged"}
    assert losses["last"] != losses["merged"]


def test_who_is_absent_keeps_its_model():
    _, seen = run(Gossip(probability=1.0), 4, participation=Participation(count=3))
    for one in seen:
        away = [i for i, name in enumerate(one.round.everyone) if name not in one.round.names]
        np.testing.assert_array_equal(models(one.state)[away], models(one.outcome.state)[away])


def test_hard_rounds():
    for probability in (0.0, 1.0):
        edges(Gossip(probability=probability))
    none = answers(Gossip(), invented([[1.0, 0.0]], [0.0]))
    assert none.notes == {"pairs": 0}


def test_both_ways_of_training_agree():
    ways_agree(Gossip(probability=0.5))


def test_a_probability_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"probability is 1\.5"):
        Gossip(probability=1.5)
