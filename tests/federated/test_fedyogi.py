import numpy as np
from tests.federated.watched import answers, invented, run, ways_agree

from equipoise.federated import FedAdam, FedYogi


def test_three_rounds_are_those_of_the_algorithm():
    """Algorithm 2 of Reddi et al. 2021, the v of Yogi; with a first square of 0 it is Flower's FedYogi."""
    for first in (None, 0.0):
        _, seen = run(FedYogi(learning_rate=0.05, first=first), 3)
        m, v = 0.0, 1e-6 if first is None else first
        for one in seen:
            samples = one.round.side["samples"].numpy()
            delta = samples @ one.updates / samples.sum()
            m = 0.9 * m + 0.1 * delta
            v = v - 0.01 * delta**2 * np.sign(v - delta**2)
            np.testing.assert_allclose(one.step, 0.05 * m / (np.sqrt(v) + 1e-3), rtol=1e-9, atol=1e-16)


def test_a_small_update_after_a_large_one_hardly_shrinks_the_scale():
    """Where D^2 falls far below v, v falls by (1 - b2) D^2, Adam's by (1 - b2) v."""
    squares = {}
    for system in (FedYogi(), FedAdam()):
        first = answers(system, invented([[10.0]], [0.0]))
        second = answers(system, invented([[1e-3]], [0.0]), first.state)
        squares[type(system)] = [float(one.state["square/w"]) for one in (first, second)]
    before, after = squares[FedYogi]
    np.testing.assert_allclose(before - after, 0.01 * 1e-6, rtol=1e-6)
    before, after = squares[FedAdam]
    np.testing.assert_allclose(after, 0.99 * before + 0.01 * 1e-6, rtol=1e-12)


def test_hard_rounds_and_absent_clients():
    for updates in ([[1.0, -2.0]], [[1.0, -2.0]] * 3, [[1.0, 0.0], [-1.0, 0.0]], [[1e-12, 1e12]] * 2):
        answers(FedYogi(), invented(updates, [0.0] * len(updates)))
    answers(FedYogi(), invented([[1.0, 0.0]], [1.0], everyone=("a", "x")))
    assert answers(FedYogi(first=0.0), invented([[0.0]], [0.0])).update["w"].tolist() == [0]


def test_both_ways_of_training_agree():
    ways_agree(FedYogi())
