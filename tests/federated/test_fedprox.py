import numpy as np
import pytest
import torch
from tests.federated.leastsquares import LeastSquares, normal
from tests.federated.softmax import descended
from tests.federated.watched import digits, flat, run, ways_agree

from equipoise.federated import FedAdam, FedAvg, FedProx, Local
from equipoise.federated.algorithm import Algorithm


def test_clients_descend_the_loss_and_the_squared_distance():
    """Equation 2 of Li et al. 2020: the gradient is grad F + mu (v - w), the distance has no root."""
    clients = digits()
    _, seen = run(FedProx(mu=0.7), 2, on=clients)
    for one in seen:
        start = flat(one.round.parameters)
        for name, update in zip(one.round.names, one.updates, strict=True):
            end = descended(
                start, clients.examples(name, "train"), 3, 0.2, lambda g, v, w=start: g + 0.7 * (v - w)
            )
            np.testing.assert_allclose(update, end - start, rtol=1e-9, atol=1e-14)
        shares = one.round.side["samples"].numpy()
        np.testing.assert_allclose(one.step, shares @ one.updates / shares.sum(), rtol=1e-12)


def test_a_mu_of_zero_is_fedavg_to_the_last_bit():
    models = [run(system, 3)[0].model for system in (FedProx(mu=0), FedAvg())]
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, other)


def test_long_training_ends_where_the_proximal_problem_has_its_minimum():
    """For a quadratic loss with matrix A and right side b, at (A + mu)^-1 (b + mu w)."""
    long = Local(steps=300, batch_size=None, learning_rate=0.2)
    _, (seen,) = run(FedProx(mu=2.0), 1, on=LeastSquares(), local=long)
    start = flat(seen.round.parameters)
    for k, update in enumerate(seen.updates):
        matrix, right = normal(k)
        wanted = np.linalg.solve(matrix + 2 * np.eye(3), right + 2 * start)
        np.testing.assert_allclose(start + update, wanted, rtol=1e-9)


def test_the_loss_that_is_reported_is_that_of_the_data():
    _, (seen,) = run(FedProx(mu=1e-9), 1)
    _, (bent,) = run(FedProx(mu=0.0), 1)
    np.testing.assert_allclose(seen.losses("loss_during"), bent.losses("loss_during"), rtol=1e-6)


def test_its_client_goes_with_another_server():
    finished, _ = run(Algorithm(FedProx(mu=0.1).client, FedAdam().server), 2)
    assert all(bool(p.isfinite().all()) for p in finished.model.parameters())


def test_both_ways_of_training_agree():
    ways_agree(FedProx(mu=0.5))


def test_a_negative_mu_is_refused():
    with pytest.raises(ValueError, match="mu is -1"):
        FedProx(mu=-1)
