from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.federated.softmax import gradient
from tests.federated.watched import answers, digits, edges, flat, invented, run, ways_agree

from equipoise.federated import FedAvg, FedNova, Local, Participation

UNEVEN = Participation(effort={f"client-0{k}": share for k, share in enumerate((0.2, 0.4, 0.6, 0.8, 1.0))})


def length(steps, momentum):
    """|a|_1 by walking: a gradient goes on in the momentum of every later step."""
    total = velocity = 0.0
    for _ in range(steps):
        velocity = momentum * velocity + 1
        total += velocity
    return total


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rounds_of_unequal_clients_are_those_of_the_paper(momentum):
    """Wang et al. 2020: x + tau_eff sum p_k Delta_k / |a_k|, tau_eff = sum p_k |a_k|."""
    local = Local(steps=10, batch_size=None, learning_rate=0.1, momentum=momentum)
    system = FedNova(learning_rate=0.9)
    _, seen = run(system, 2, local=local, participation=UNEVEN)
    for one in seen:
        steps = [int(k) for k in one.round.side["steps"]]
        assert steps == [2, 4, 6, 8, 10]
        walked = np.array([length(k, momentum) for k in steps])
        p = one.round.side["samples"].numpy()
        p = p / p.sum()
        wanted = 0.9 * (p @ walked) * ((p / walked) @ one.updates)
        np.testing.assert_allclose(one.step, wanted, rtol=1e-10, atol=1e-15)
        assert one.outcome.notes["effective_steps"] == pytest.approx(p @ walked)


def test_with_equal_steps_it_is_fedavg():
    for local in (Local(steps=3), Local(steps=3, momentum=0.9)):
        mine, theirs = (run(system, 1, local=local)[1][0].step for system in (FedNova(), FedAvg()))
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)


def test_its_direction_is_the_gradient_of_the_mean_loss_whatever_the_steps():
    """For a small local rate; FedAvg's is that of the losses weighted by the number of steps besides."""
    clients = digits()
    small = Local(steps=10, batch_size=None, learning_rate=1e-6)
    cosines = {}
    for system in (FedNova(), FedAvg()):
        _, (seen,) = run(system, 1, on=clients, local=small, participation=UNEVEN)
        start, p = flat(seen.round.parameters), seen.round.shares.numpy()
        slopes = np.array([gradient(start, clients.examples(name, "train")) for name in clients.clients])
        wanted = -p @ slopes
        cosines[type(system)] = wanted @ seen.step / np.linalg.norm(wanted) / np.linalg.norm(seen.step)
    assert cosines[FedNova] == pytest.approx(1, abs=1e-8)
    assert cosines[FedAvg] < 0.99


def test_the_closed_form_is_the_walk():
    for momentum in (0.0, 0.3, 0.99):
        found = Local(momentum=momentum).lengths(torch.arange(1, 40, dtype=torch.float64))
        np.testing.assert_allclose(found, [length(k, momentum) for k in range(1, 40)], rtol=1e-9)


def test_hard_rounds():
    edges(FedNova())
    round = invented([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    far = {**round.side, "steps": torch.tensor([1.0, 1e6], dtype=torch.float64)}
    answers(FedNova(), replace(round, side=far, local=Local(momentum=0.999)))


def test_both_ways_of_training_agree():
    ways_agree(FedNova())


def test_what_is_out_of_range_is_refused():
    with pytest.raises(ValueError, match="learning_rate is 0"):
        FedNova(learning_rate=0)
