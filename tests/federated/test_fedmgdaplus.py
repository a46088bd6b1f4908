import numpy as np
import pytest
from scipy.optimize import minimize
from tests.federated.watched import answers, edges, invented, run, ways_agree

from equipoise.federated import FedMGDAPlus, Participation


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def weights_of(rows, epsilon):
    """The quadratic program of the paper, by a general solver."""
    cosines, mean = unit(rows) @ unit(rows).T, np.full(len(rows), 1 / len(rows))
    found = minimize(
        lambda w: w @ cosines @ w,
        mean,
        jac=lambda w: 2 * cosines @ w,
        bounds=[(max(0, c - epsilon), min(1, c + epsilon)) for c in mean],
        constraints=[{"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like}],
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 500},
    )
    return found.x


@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.1, 1.0])
def test_the_step_is_the_shortest_mixture_of_unit_updates_within_the_bounds(epsilon):
    _, seen = run(FedMGDAPlus(epsilon=epsilon, learning_rate=0.3, decay=0.5), 2)
    for number, one in enumerate(seen):
        wanted = weights_of(one.updates, epsilon)
        np.testing.assert_allclose(one.outcome.weights.numpy(), wanted, atol=1e-6)
        step = 0.3 * 0.5**number * wanted @ unit(one.updates)
        np.testing.assert_allclose(one.step, step, atol=1e-6 * np.linalg.norm(step))


def test_steps_of_the_size_that_was_sent():
    _, (seen,) = run(FedMGDAPlus(unit_steps=False), 1)
    np.testing.assert_allclose(seen.step, seen.outcome.weights.numpy() @ seen.updates, atol=1e-12)


def test_with_the_whole_simplex_no_client_is_hurt():
    """The min-norm point d has <d, u_k> >= |d|^2 for every k."""
    _, seen = run(FedMGDAPlus(epsilon=1.0), 3)
    for one in seen:
        along = unit(one.updates) @ one.step
        assert (along >= one.step @ one.step - 1e-9).all()


def test_the_direction_does_not_see_how_large_a_client_makes_its_update():
    rows = np.random.default_rng(0).normal(size=(4, 6))
    plain = answers(FedMGDAPlus(), invented(rows, [1.0] * 4)).update["w"]
    rows[2] *= 1e6
    inflated = answers(FedMGDAPlus(), invented(rows, [1.0] * 4)).update["w"]
    np.testing.assert_allclose(plain.numpy(), inflated.numpy(), rtol=1e-9, atol=1e-12)


def test_a_client_that_cannot_improve_stops_the_rest_where_the_bounds_allow():
    round = invented([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [1.0] * 3)
    stopped = answers(FedMGDAPlus(epsilon=1.0), round).update["w"].tolist()
    assert stopped == pytest.approx([0, 0], abs=1e-15)
    held = answers(FedMGDAPlus(epsilon=0.1), round)
    assert held.weights[0] == pytest.approx(1 / 3 + 0.1)
    assert (held.update["w"] > 0.2).all()


@pytest.mark.parametrize("options", [{}, {"epsilon": 1.0}, {"epsilon": 0.0, "unit_steps": False}])
def test_hard_rounds(options):
    edges(FedMGDAPlus(**options))


def test_clients_may_be_absent():
    _, seen = run(FedMGDAPlus(epsilon=0.0), 3, participation=Participation(count=2))
    assert all(one.outcome.weights.tolist() == [0.5, 0.5] for one in seen)


def test_both_ways_of_training_agree():
    ways_agree(FedMGDAPlus())


@pytest.mark.parametrize(
    "options", [{"epsilon": 1.1}, {"epsilon": -0.1}, {"learning_rate": 0.0}, {"decay": 0.0}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        FedMGDAPlus(**options)
