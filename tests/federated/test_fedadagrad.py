import numpy as np
import pytest
from tests.federated.watched import answers, invented, run, ways_agree

from equipoise.federated import FedAdagrad


@pytest.mark.parametrize("beta_1", [0.0, 0.7])
def test_three_rounds_are_those_of_the_algorithm(beta_1):
    """Algorithm 2 of Reddi et al. 2021, v the sum of squares; Flower's begins it at 0."""
    for first in (None, 0.0):
        _, seen = run(FedAdagrad(learning_rate=0.05, beta_1=beta_1, first=first), 3)
        m, v = 0.0, 1e-6 if first is None else first
        for one in seen:
            samples = one.round.side["samples"].numpy()
            delta = samples @ one.updates / samples.sum()
            m, v = beta_1 * m + (1 - beta_1) * delta, v + delta**2
            np.testing.assert_allclose(one.step, 0.05 * m / (np.sqrt(v) + 1e-3), rtol=1e-9, atol=1e-16)


def test_the_same_update_again_moves_as_one_over_the_root_of_the_round():
    system, state, steps = FedAdagrad(tau=1e-9), None, []
    for _ in range(9):
        outcome = answers(system, invented([[3.0]], [0.0]), state)
        state = outcome.state
        steps.append(float(outcome.update["w"]))
    np.testing.assert_allclose(steps, 0.1 / np.sqrt(np.arange(1, 10)), rtol=1e-6)


def test_hard_rounds_and_absent_clients():
    for updates in ([[1.0, -2.0]], [[1.0, -2.0]] * 3, [[1.0, 0.0], [-1.0, 0.0]], [[1e-12, 1e12]] * 2):
        answers(FedAdagrad(), invented(updates, [0.0] * len(updates)))
    answers(FedAdagrad(), invented([[1.0, 0.0]], [1.0], everyone=("a", "x")))
    assert answers(FedAdagrad(first=0.0), invented([[0.0]], [0.0])).update["w"].tolist() == [0]


def test_both_ways_of_training_agree():
    ways_agree(FedAdagrad())
