from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import special
from tests.federated.watched import answers, digits, invented, run, ways_agree

from equipoise.federated import FedAvg, FedDisco


def counted(counts, samples=None):
    """A round of clients with these classes, each with an update of its own."""
    counts = torch.tensor(counts, dtype=torch.float64)
    round = invented(np.eye(len(counts)), [0.0] * len(counts))
    samples = counts.sum(1) if samples is None else torch.tensor(samples, dtype=torch.float64)
    return replace(round, side={**round.side, "label_counts": counts, "samples": samples})


@pytest.mark.parametrize("discrepancy", ["kl", "l2"])
@pytest.mark.parametrize("reference", ["even", "all"])
def test_weights_are_those_of_the_authors_rule(discrepancy, reference):
    """SciPy's divergence in nats, divided by its sum as in the code of Ye et al. 2023."""
    clients = digits(split="dirichlet")
    system = FedDisco(a=0.4, b=0.15, discrepancy=discrepancy, reference=reference, learning_rate=0.9)
    _, seen = run(system, 2, on=clients)
    counts = np.array([np.bincount(clients.examples(c, "train")[1], minlength=10) for c in clients.clients])
    shares = counts / counts.sum(1, keepdims=True)
    whole = counts.sum(0) / counts.sum() if reference == "all" else np.full(10, 0.1)
    if discrepancy == "kl":
        apart = special.rel_entr(shares, whole).sum(1)
        apart = apart / apart.sum()
    else:
        apart = np.sqrt(((shares - whole) ** 2).sum(1))
    weights = np.maximum(counts.sum(1) / counts.sum() - 0.4 * apart + 0.15, 0)
    weights = weights / weights.sum()
    assert len(set(weights.round(6))) > 1
    for one in seen:
        np.testing.assert_allclose(one.outcome.weights, weights, rtol=1e-10)
        np.testing.assert_allclose(one.step, 0.9 * weights @ one.updates, rtol=1e-10, atol=1e-15)


def test_without_a_and_b_or_with_equal_classes_it_is_fedavg():
    clients = digits(split="dirichlet")
    steps = [run(system, 1, on=clients)[1][0].step for system in (FedDisco(a=0, b=0), FedAvg())]
    np.testing.assert_allclose(steps[0], steps[1], rtol=1e-12)
    for reference in ("even", "all"):
        for counts in ([[7, 7, 7], [2, 2, 2]], [[9, 3, 1], [27, 9, 3], [90, 30, 10]]):
            if reference == "even" and counts[0][0] != counts[0][1]:
                continue
            found = answers(FedDisco(b=0, reference=reference), counted(counts))
            wanted = torch.tensor(counts, dtype=torch.float64).sum(1)
            torch.testing.assert_close(found.weights, wanted / wanted.sum())


def test_of_two_clients_of_one_size_the_even_one_counts_more():
    weights = answers(FedDisco(), counted([[5, 5], [10, 0]])).weights
    assert weights[0] > weights[1]
    more = answers(FedDisco(a=1.0), counted([[5, 5], [10, 0]])).weights
    assert more[0] > weights[0]


def test_where_nobody_is_left_the_weights_are_those_of_fedavg():
    weights = answers(FedDisco(a=5.0, b=-3.0), counted([[4, 0], [0, 12]])).weights
    assert weights.tolist() == [0.25, 0.75]


def test_hard_rounds():
    answers(FedDisco(), counted([[3, 0]]))
    answers(FedDisco(reference="all"), counted([[3, 0]]))
    answers(FedDisco(), counted([[0, 0], [1, 0]], samples=[1, 1]))
    answers(FedDisco(reference="all", discrepancy="l2"), counted([[1, 0, 0], [0, 1, 0]]))
    answers(FedDisco(reference="all"), counted([[0, 0], [0, 0]], samples=[1, 1]))


def test_both_ways_of_training_agree():
    ways_agree(FedDisco())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"a": -1}, "a is -1"),
        ({"learning_rate": 0}, "learning_rate is 0"),
        ({"discrepancy": "js"}, "discrepancy"),
        ({"reference": "none"}, "reference"),
    ],
)
def test_what_is_out_of_range_is_refused(options, told):
    with pytest.raises(ValueError, match=told):
        FedDisco(**options)
