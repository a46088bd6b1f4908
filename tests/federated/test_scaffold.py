from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.federated.leastsquares import LeastSquares, common_minimum
from tests.federated.softmax import descended
from tests.federated.watched import answers, digits, flat, invented, run, ways_agree

from equipoise.federated import SCAFFOLD, FedAvg, Local, Participation


def test_rounds_with_absent_clients_are_those_of_the_algorithm():
    """Algorithm 1 of Karimireddy et al. 2020, option II, two of five clients in a round."""
    clients, rate, steps = digits(), 0.2, 3
    two = Participation(count=2)
    _, seen = run(SCAFFOLD(learning_rate=0.8), 5, on=clients, participation=two)
    own = {name: np.zeros(650) for name in clients.clients}
    common = np.zeros(650)
    met = [name for one in seen for name in one.round.names]
    assert len(set(met)) < len(met), "no client came twice, so that nothing was kept"
    for one in seen:
        start, moves, changes = flat(one.round.parameters), [], []
        np.testing.assert_allclose(flat(one.state), common, rtol=1e-8, atol=1e-13)
        for name in one.round.names:
            shift = common - own[name]
            end = descended(
                start, clients.examples(name, "train"), steps, rate, lambda g, v, by=shift: g + by
            )
            after = own[name] - common + (start - end) / (steps * rate)
            moves.append(end - start)
            changes.append(after - own[name])
            own[name] = after
        np.testing.assert_allclose(one.updates, moves, rtol=1e-8, atol=1e-13)
        np.testing.assert_allclose(one.step, 0.8 * np.mean(moves, 0), rtol=1e-8, atol=1e-13)
        common = common + len(moves) / 5 * np.mean(changes, 0)
    np.testing.assert_allclose(flat(seen[-1].outcome.state), common, rtol=1e-8, atol=1e-13)


def test_the_servers_variate_is_the_mean_of_all_clients():
    """c = 1/N sum_k c_k at all times, where both begin at 0."""
    clients = digits()
    _, seen = run(SCAFFOLD(), 4, on=clients, participation=Participation(count=3))
    own = {name: np.zeros(650) for name in clients.clients}
    for one in seen:
        changes = flat(one.round.sent, rows=True)
        for name, change in zip(one.round.names, changes, strict=True):
            own[name] = own[name] + change
        np.testing.assert_allclose(
            flat(one.outcome.state), np.mean(list(own.values()), 0), rtol=1e-10, atol=1e-15
        )


def test_it_reaches_the_common_minimum_where_fedavg_does_not():
    """A fixed point has grad F(w) = 0, F the mean loss; FedAvg's moves with the local steps."""
    apart = {}
    for system in (SCAFFOLD(), FedAvg()):
        local = Local(steps=10, batch_size=None, learning_rate=0.1)
        finished, _ = run(system, 120, on=LeastSquares(), local=local)
        end = flat(dict(finished.model.named_parameters()))
        apart[type(system)] = np.linalg.norm(end - common_minimum())
    assert apart[SCAFFOLD] < 1e-6
    assert apart[FedAvg] > 0.05


def test_one_step_on_equal_clients_is_plain_descent_from_the_first_round():
    _, (seen,) = run(SCAFFOLD(), 1)
    _, (plain,) = run(FedAvg(), 1)
    np.testing.assert_allclose(seen.updates, plain.updates, rtol=1e-12)


def test_the_messages_are_twice_those_of_fedavg():
    bytes_ = [run(system, 1)[0].history[0] for system in (SCAFFOLD(), FedAvg())]
    assert bytes_[0].down == 2 * bytes_[1].down
    assert bytes_[0].up == pytest.approx(2 * bytes_[1].up, rel=0.01)


def test_hard_rounds():
    round = invented([[1.0, -2.0], [1.0, -2.0]], [0.0, 0.0], everyone=("a", "x", "b"))
    for sent in (torch.zeros(2, 2), torch.tensor([[1e12, -1e-12]] * 2)):
        outcome = answers(SCAFFOLD(), replace(round, sent={"control/w": sent.double()}))
        assert outcome.update["w"].tolist() == [1, -2]
        torch.testing.assert_close(outcome.state["control/w"], 2 / 3 * sent.double().mean(0))


def test_both_ways_of_training_agree():
    ways_agree(SCAFFOLD())


def test_a_learning_rate_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="learning_rate is 0"):
        SCAFFOLD(learning_rate=0)


def test_with_local_momentum_the_variates_are_mean_gradients_still():
    """Were w - v_K divided by K eta_l alone, they would grow tenfold in every round."""
    local = Local(steps=10, batch_size=None, learning_rate=0.01, momentum=0.9)
    _, seen = run(SCAFFOLD(), 60, on=LeastSquares(), local=local)
    apart = np.linalg.norm(flat(seen[-1].round.parameters) - common_minimum())
    assert apart < 0.05 * np.linalg.norm(flat(seen[0].round.parameters) - common_minimum())
