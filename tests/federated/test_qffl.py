import numpy as np
import pytest
import torch
from tests.federated.watched import edges, run, ways_agree

from equipoise.federated import QFFL, Local


def written_out(updates, losses, rate, q):
    """Algorithm 2 on its own terms: gradients by L, Delta and h for each client, their sums."""
    gradients = -updates / rate
    deltas = losses[:, None] ** q * gradients
    h = q * losses ** (q - 1) * (gradients**2).sum(1) + losses**q / rate
    return -deltas.sum(0) / h.sum()


@pytest.mark.parametrize("q", [0.0, 0.1, 1.0, 5.0])
def test_the_step_is_that_of_the_algorithm(q):
    _, seen = run(QFFL(q=q), 3)
    for one in seen:
        np.testing.assert_allclose(
            one.step, written_out(one.updates, one.losses("loss"), 0.2, q), rtol=1e-9, atol=1e-15
        )


def test_the_local_rate_of_the_round_sets_the_smoothness():
    _, seen = run(QFFL(q=2), 2, local=Local(steps=2, batch_size=None, learning_rate=0.3, decay=0.5))
    assert seen[1].round.sent["rate"].tolist() == [0.15] * 5
    wanted = written_out(seen[1].updates, seen[1].losses("loss"), 0.15, 2)
    np.testing.assert_allclose(seen[1].step, wanted, rtol=1e-9, atol=1e-15)


def test_q_of_zero_is_the_plain_mean():
    _, (seen,) = run(QFFL(q=0), 1)
    np.testing.assert_allclose(seen.step, seen.updates.mean(0), rtol=1e-12, atol=1e-15)


def test_one_step_with_a_small_rate_follows_the_gradient_of_the_powers():
    """sum F^(q+1) / (q+1) has the gradient sum F^q grad F (equation 2)."""
    _, (seen,) = run(QFFL(q=3), 1, local=Local(steps=1, batch_size=None, learning_rate=1e-3))
    wanted = (seen.losses("loss")[:, None] ** 3 * seen.updates).sum(0)
    cosine = wanted @ seen.step / np.linalg.norm(wanted) / np.linalg.norm(seen.step)
    assert cosine == pytest.approx(1, abs=1e-12)


def test_a_larger_q_gives_the_worst_client_more_of_the_weight():
    shares = []
    for q in (0, 1, 5):
        _, (seen,) = run(QFFL(q=q), 1)
        weights = seen.outcome.weights.numpy()
        shares.append((weights / weights.sum())[seen.losses("loss").argmax()])
    assert shares[0] < shares[1] < shares[2]


@pytest.mark.parametrize("q", [0.0, 0.3, 1.0, 15.0])
def test_hard_rounds(q):
    edges(QFFL(q=q), rate=0.1)


def test_both_ways_of_training_agree():
    ways_agree(QFFL(q=1))


@pytest.mark.parametrize("q", [-0.1, float("nan")])
def test_a_power_below_zero_is_refused(q):
    with pytest.raises(ValueError, match="q is"):
        QFFL(q=q)


def test_the_rate_is_told_in_float64():
    _, (seen,) = run(QFFL(), 1)
    assert seen.round.sent["rate"].dtype == torch.float64
