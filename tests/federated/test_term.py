import numpy as np
import pytest
from tests.federated.watched import answers, edges, invented, run, ways_agree

from equipoise.federated import TERM, Participation


@pytest.mark.parametrize("tilt", [-2.0, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("memory", [0.0, 0.5])
def test_steps_are_those_of_the_running_estimate(tilt, memory):
    _, seen = run(TERM(tilt=tilt, memory=memory), 3)
    estimate = None
    for one in seen:
        exponentials = np.exp(tilt * one.losses("loss"))
        now = exponentials.mean()
        estimate = now if estimate is None else memory * estimate + (1 - memory) * now
        wanted = (exponentials / estimate / len(exponentials)) @ one.updates
        np.testing.assert_allclose(one.step, wanted, rtol=1e-9, atol=1e-15)


def test_without_memory_weights_are_the_gradient_of_the_tilted_loss():
    """Lemma 1: the weight of F_k is exp(t F_k) over their sum."""
    losses, step = np.array([0.3, 1.2, 0.9]), 1e-6
    weights = answers(TERM(tilt=4, memory=0), invented(np.eye(3), losses)).weights.numpy()

    def tilted(at):
        return np.log(np.exp(4 * at).mean()) / 4

    slopes = [(tilted(losses + step * e) - tilted(losses - step * e)) / (2 * step) for e in np.eye(3)]
    np.testing.assert_allclose(weights, slopes, rtol=1e-6)


def test_the_limits_are_the_mean_the_worst_and_the_best():
    round = invented(np.eye(3), [0.3, 1.2, 0.9])
    for tilt, wanted in ((0.0, [1 / 3] * 3), (1e4, [0, 1, 0]), (-1e4, [1, 0, 0])):
        found = answers(TERM(tilt=tilt, memory=0), round).update["w"].numpy()
        np.testing.assert_allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize("tilt", [-3.0, 3.0])
def test_weights_do_not_exceed_what_memory_allows(tilt):
    algorithm, state = TERM(tilt=tilt, memory=0.5), None
    for losses in ([1.0, 1.0], [9.0, 0.0], [0.0, 0.1], [5.0, 5.0]):
        outcome = answers(algorithm, invented(np.eye(2), losses), state)
        state = outcome.state
        assert outcome.weights.sum() <= 2 + 1e-12


@pytest.mark.parametrize("tilt", [-1e3, 0.0, 1e3])
def test_hard_rounds(tilt):
    edges(TERM(tilt=tilt, memory=0))


def test_clients_may_be_absent():
    _, seen = run(TERM(), 4, participation=Participation(count=2))
    assert {len(one.round.names) for one in seen} == {2}


def test_both_ways_of_training_agree():
    ways_agree(TERM(tilt=2.0))


@pytest.mark.parametrize("options", [{"memory": 1.0}, {"memory": -0.1}, {"tilt": float("inf")}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="tilt is"):
        TERM(**options)
