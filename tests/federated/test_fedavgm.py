import numpy as np
import pytest
from tests.federated.watched import answers, edges, invented, run, ways_agree

from equipoise.federated import FedAvg, FedAvgM


def test_three_rounds_are_gathered():
    """v <- beta v + D, w <- w + eta v, D weighted by examples; Flower's FedAvgM is the same."""
    _, seen = run(FedAvgM(learning_rate=0.5, momentum=0.7), 3)
    gathered = 0.0
    for one in seen:
        samples = one.round.side["samples"].numpy()
        gathered = 0.7 * gathered + samples @ one.updates / samples.sum()
        np.testing.assert_allclose(one.step, 0.5 * gathered, rtol=1e-12, atol=1e-16)


def test_without_momentum_it_is_fedavg():
    steps = [run(system, 2)[1][1].step for system in (FedAvgM(momentum=0), FedAvg())]
    np.testing.assert_allclose(steps[0], steps[1], rtol=1e-12)


def test_the_same_update_for_ever_counts_one_over_one_less_momentum():
    state = None
    for _ in range(300):
        outcome = answers(FedAvgM(momentum=0.9), invented([[2.0]], [0.0]), state)
        state = outcome.state
    assert float(outcome.update["w"]) == pytest.approx(20, rel=1e-9)


def test_hard_rounds():
    edges(FedAvgM())


def test_both_ways_of_training_agree():
    ways_agree(FedAvgM())


@pytest.mark.parametrize(
    ("options", "told"), [({"learning_rate": -1}, "learning_rate is -1"), ({"momentum": 1}, "momentum is 1")]
)
def test_what_is_out_of_range_is_refused(options, told):
    with pytest.raises(ValueError, match=told):
        FedAvgM(**options)
