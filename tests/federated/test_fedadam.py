import numpy as np
import pytest
import torch
from tests.federated.watched import answers, invented, run, ways_agree

from equipoise.federated import FedAdam, Local


def mean_update(one):
    samples = one.round.side["samples"].numpy()
    return samples @ one.updates / samples.sum()


def test_three_rounds_are_those_of_the_algorithm():
    """Algorithm 2 of Reddi et al. 2021, the m and v of Adam, v beginning at tau^2."""
    eta, b1, b2, tau = 0.05, 0.8, 0.95, 1e-2
    _, seen = run(FedAdam(learning_rate=eta, beta_1=b1, beta_2=b2, tau=tau), 3)
    m, v = 0.0, tau**2
    for one in seen:
        delta = mean_update(one)
        m = b1 * m + (1 - b1) * delta
        v = b2 * v + (1 - b2) * delta * delta
        np.testing.assert_allclose(one.step, eta * m / (np.sqrt(v) + tau), rtol=1e-10, atol=1e-16)


def test_the_correction_of_flower_is_what_lies_between_the_two():
    """Its rule, from a square of 0, is ours times sqrt(1 - b2^(t + 1)) / (1 - b1^(t + 1)) in round t."""
    _, seen = run(FedAdam(first=0.0), 3)
    m = v = 0.0
    for t, one in enumerate(seen, 1):
        delta = mean_update(one)
        m, v = 0.9 * m + (1 - 0.9) * delta, 0.99 * v + (1 - 0.99) * delta**2
        corrected = 0.1 * np.sqrt(1 - 0.99 ** (t + 1)) / (1 - 0.9 ** (t + 1))
        theirs = corrected * m / (np.sqrt(v) + 1e-3)
        factor = np.sqrt(1 - 0.99 ** (t + 1)) / (1 - 0.9 ** (t + 1))
        np.testing.assert_allclose(theirs, factor * one.step, rtol=1e-9, atol=1e-16)


def test_updates_far_below_tau_move_the_server_in_proportion():
    """v stays near beta_2 tau^2 then, so that a step is eta D / (tau (1 + sqrt(beta_2)))."""
    _, (seen,) = run(FedAdam(learning_rate=1e6, beta_1=0.0, tau=1e6), 1)
    np.testing.assert_allclose(seen.step, mean_update(seen) / (1 + np.sqrt(0.99)), rtol=1e-9)


def test_hard_rounds_and_absent_clients():
    for updates in ([[1.0, -2.0]], [[1.0, -2.0]] * 3, [[1.0, 0.0], [-1.0, 0.0]], [[1e-12, 1e12]] * 2):
        answers(FedAdam(), invented(updates, [0.0] * len(updates)))
    away = invented([[1.0, 0.0], [0.0, 1.0]], [1.0, 2.0], everyone=("a", "x", "b"))
    first = answers(FedAdam(), away)
    answers(FedAdam(), away, first.state)
    nothing = answers(FedAdam(first=0.0), invented([[0.0, 0.0]], [0.0])).update["w"]
    assert nothing.tolist() == [0, 0]


def test_the_state_has_the_dtype_of_the_model():
    state = FedAdam().server.start({"w": torch.zeros(2, dtype=torch.float32)}, ("a",))
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


def test_both_ways_of_training_agree():
    ways_agree(FedAdam())


def test_it_trains():
    finished, _ = run(FedAdam(), 30, local=Local(steps=3, batch_size=None, learning_rate=0.1))
    losses = [np.mean(list(record.loss.values())) for record in finished.history]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"tau": 0}, "tau is 0"),
        ({"beta_1": 1}, "beta_1 is 1"),
        ({"beta_2": -0.1}, "beta_2 is -0.1"),
        ({"first": -1}, "first is -1"),
    ],
)
def test_what_is_out_of_range_is_refused(options, told):
    with pytest.raises(ValueError, match=told):
        FedAdam(**options)
