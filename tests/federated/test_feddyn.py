import numpy as np
import pytest
from tests.federated.leastsquares import LeastSquares, common_minimum
from tests.federated.softmax import descended
from tests.federated.watched import digits, edges, flat, run, ways_agree

from equipoise.federated import FedAvg, FedDyn, Local, Participation


def test_rounds_with_absent_clients_are_those_of_the_algorithm():
    """Algorithm 1 of Acar et al. 2021, two of five clients in a round."""
    clients, rate, steps, alpha = digits(), 0.2, 3, 0.3
    system = FedDyn(alpha=alpha)
    finished, seen = run(system, 5, on=clients, participation=Participation(count=2))
    slopes = {name: np.zeros(650) for name in clients.clients}
    h = np.zeros(650)
    met = [name for one in seen for name in one.round.names]
    assert len(set(met)) < len(met), "no client came twice, so that nothing was kept"
    for one in seen:
        w, ends = flat(one.round.parameters), []
        for name in one.round.names:
            end = descended(
                w,
                clients.examples(name, "train"),
                steps,
                rate,
                lambda g, v, s=slopes[name], w=w: g - s + alpha * (v - w),
            )
            slopes[name] = slopes[name] - alpha * (end - w)
            ends.append(end)
        np.testing.assert_allclose(one.updates, np.array(ends) - w, rtol=1e-8, atol=1e-13)
        h = h - alpha / 5 * (np.array(ends) - w).sum(0)
        np.testing.assert_allclose(w + one.step, np.mean(ends, 0) - h / alpha, rtol=1e-8, atol=1e-13)
        np.testing.assert_allclose(flat(one.outcome.state), h, rtol=1e-8, atol=1e-13)
    average = flat(dict(finished.outputs["average"].named_parameters()))
    np.testing.assert_allclose(average, np.mean(ends, 0), rtol=1e-8, atol=1e-13)
    np.testing.assert_allclose(h, np.mean(list(slopes.values()), 0), rtol=1e-8, atol=1e-13)


def test_it_reaches_the_common_minimum_where_fedavg_does_not():
    """A fixed point has all w_k = w, h = 0, and so the mean of grad F_k(w) = 0."""
    apart = {}
    for system in (FedDyn(alpha=0.5), FedAvg()):
        local = Local(steps=10, batch_size=None, learning_rate=0.1)
        finished, _ = run(system, 120, on=LeastSquares(), local=local)
        end = flat(dict(finished.model.named_parameters()))
        apart[type(system)] = np.linalg.norm(end - common_minimum())
    assert apart[FedDyn] < 1e-6
    assert apart[FedAvg] > 0.05


def test_hard_rounds():
    edges(FedDyn())


def test_both_ways_of_training_agree():
    ways_agree(FedDyn(alpha=0.1))


def test_an_alpha_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="alpha is 0"):
        FedDyn(alpha=0)
