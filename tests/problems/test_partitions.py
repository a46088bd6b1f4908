"""Partitions give every example once, to the sizes and classes they promise, from their seed alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.problems.partitions import (
    apportioned,
    biased,
    by_domain,
    dirichlet,
    iid,
    in_proportion,
    pathological,
    quantity,
    rotated,
    turns,
)

LABELS = torch.arange(10).repeat(60)[torch.randperm(600, generator=torch.Generator().manual_seed(1))]
DEALS = {
    "iid": lambda seed: iid(600, 7, seed),
    "dirichlet": lambda seed: dirichlet(LABELS, 7, 0.3, seed, least=4),
    "pathological": lambda seed: pathological(LABELS, 7, 3, seed),
    "quantity": lambda seed: quantity(600, 7, 0.3, seed, least=4),
    "biased": lambda seed: biased(LABELS, 7, seed),
    "in_proportion": lambda seed: in_proportion(LABELS, torch.eye(10), 30, seed),
}


def classes(share: torch.Tensor) -> list[int]:
    return LABELS[share].unique().tolist()


@pytest.mark.parametrize("name", DEALS)
def test_shares_are_disjoint_ascending_and_of_the_seed_alone(name):
    torch.manual_seed(5)
    state, numbers = torch.get_rng_state(), np.random.get_state()[1].tolist()
    first, again, other = (DEALS[name](seed) for seed in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert np.random.get_state()[1].tolist() == numbers
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    every = torch.cat(first)
    assert len(every.unique()) == len(every)
    assert all(share.dtype == torch.int64 for share in first)
    assert all(bool((share.diff() > 0).all()) for share in first)


@pytest.mark.parametrize("name", ["iid", "dirichlet", "pathological", "quantity"])
def test_all_examples_are_used(name):
    assert torch.cat(DEALS[name](3)).sort().values.tolist() == list(range(600))


@given(
    alpha=st.floats(1e-300, 1e6),
    clients=st.integers(1, 60),
    least=st.integers(0, 10),
    seed=st.integers(0, 99),
)
def test_dirichlet_ends_and_leaves_nobody_short(alpha, clients, least, seed):
    for shares in (
        dirichlet(LABELS, clients, alpha, seed, least),
        quantity(600, clients, alpha, seed, least),
    ):
        assert len(shares) == clients
        assert min(map(len, shares)) >= least
        assert len(torch.cat(shares).unique()) == 600


def test_alpha_sets_how_unlike_clients_are():
    """The expected share of a client's commonest class falls from 1 to 1/10 as alpha grows."""

    def commonest(alpha):
        found = []
        for seed in range(5):
            for share in dirichlet(LABELS, 10, alpha, seed, least=5):
                counts = torch.bincount(LABELS[share], minlength=10)
                found.append(float(counts.max() / counts.sum()))
        return sum(found) / len(found)

    harsh, middle, mild = commonest(0.05), commonest(0.5), commonest(1000)
    assert harsh > 0.6 > middle > 0.3 > mild


def test_dirichlet_shares_have_the_mean_and_variance_of_the_distribution():
    """Of Dirichlet(a, ..., a) over k clients a share has mean 1/k and variance (k-1)/(k²(ka+1))."""
    labels, clients, alpha = torch.zeros(1000, dtype=torch.int64), 4, 0.5
    rows = [[len(s) / 1000 for s in dirichlet(labels, clients, alpha, seed, least=0)] for seed in range(2000)]
    shares = torch.tensor(rows)
    assert shares.mean(0) == pytest.approx([0.25] * 4, abs=0.02)
    assert shares.var(0) == pytest.approx([3 / (16 * 3)] * 4, abs=0.006)


def test_repair_takes_from_the_largest():
    sizes = sorted(map(len, dirichlet(LABELS, 20, 1e-4, seed=0, least=10)))
    assert sizes[0] == 10
    before = sorted(map(len, dirichlet(LABELS, 20, 1e-4, seed=0, least=0)))
    assert before[0] == 0
    assert sizes[-1] < before[-1]


@pytest.mark.parametrize("clients", [1, 5, 7, 30])
@pytest.mark.parametrize("each", [1, 2, 5, 10])
def test_pathological_clients_hold_their_classes_and_no_other(clients, each):
    shares = pathological(LABELS, clients, each, seed=0)
    held = [classes(share) for share in shares]
    assert {len(names) for names in held} == {each}
    holders = [sum(name in names for names in held) for name in range(10)]
    assert max(holders) - min(holders) <= 1
    assert len(torch.cat(shares)) == 60 * sum(map(bool, holders))


def test_holders_of_a_class_have_equal_shares_of_it():
    shares = pathological(LABELS, 7, 3, seed=0)
    for name in range(10):
        sizes = [n for share in shares if (n := int((LABELS[share] == name).sum()))]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("clients", [1, 2, 5, 10, 21])
def test_biased_clients_are_as_large_as_even_ones(clients):
    shares = biased(LABELS, clients, seed=0)
    even = clients - clients // 2
    assert len({len(share) for share in shares}) == 1
    for share in shares[:even]:
        counts = torch.bincount(LABELS[share], minlength=10)
        assert counts.min() == counts.max() > 0
    singles = [classes(share) for share in shares[even:]]
    assert {len(names) for names in singles} <= {1}
    assert len({names[0] for names in singles}) == min(10, len(singles))


def test_clients_of_a_domain():
    domains = torch.tensor([2, 0, 2, 9])
    assert [share.tolist() for share in by_domain(domains)] == [[1], [0, 2], [3]]


def test_turns_come_in_the_shares_of_the_protocol():
    assert turns(10) == [0] * 7 + [1] * 2 + [2]
    assert turns(100) == [0] * 70 + [1] * 20 + [2] * 10
    assert [max(turns(clients)) for clients in (1, 5, 6)] == [0, 1, 2]
    assert [len(turns(clients)) for clients in range(1, 12)] == list(range(1, 12))


def test_quarter_turns_add_up():
    images = torch.arange(24.0).reshape(2, 3, 2, 2)
    assert torch.equal(rotated(images, 0), images)
    assert torch.equal(rotated(rotated(images, 1), 1), rotated(images, 2))
    assert torch.equal(rotated(images, 4), images)


def test_judged_examples_follow_the_proportions():
    histograms = torch.tensor([[30, 10] + [0] * 8, [1] * 10, [0] * 9 + [7]])
    shares = in_proportion(LABELS, histograms, 40, seed=0)
    counts = [torch.bincount(LABELS[share], minlength=10).tolist() for share in shares]
    assert counts == [[30, 10] + [0] * 8, [4] * 10, [0] * 9 + [40]]


def test_judged_examples_are_shared_only_once_a_class_is_used_up():
    only = torch.tensor([[1] + [0] * 9] * 3)
    first, second, third = (set(s.tolist()) for s in in_proportion(LABELS, only, 25, seed=0))
    assert not first & second
    assert len(third & (first | second)) == 15  # 60 of the class: 25 + 25, then 10 new ones
    assert {len(s) for s in in_proportion(LABELS, only, 99, seed=0)} == {60}


def test_apportioned_adds_up():
    for total in range(40):
        assert int(apportioned(torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64), total).sum()) == total


@pytest.mark.parametrize(
    ("deal", "words"),
    [
        (lambda: iid(3, 4, 0), "3 examples do not give 4 clients at least 1 each"),
        (lambda: iid(3, 0, 0), "0 clients"),
        (lambda: dirichlet(LABELS, 7, 0.3, 0, least=100), "600 examples do not give 7 clients at least 100"),
        (lambda: quantity(10, 3, 0.3, 0, least=4), "10 examples do not give 3 clients at least 4"),
        (lambda: dirichlet(LABELS, 7, 0.0, 0), "alpha is 0.0"),
        (lambda: quantity(10, 3, float("nan"), 0), "alpha is nan"),
        (lambda: quantity(10, 3, float("inf"), 0), "alpha is inf"),
        (lambda: pathological(LABELS, 7, 11, 0), "hold 11 classes, but the labels have 10"),
        (lambda: pathological(LABELS, 0, 1, 0), "0 clients"),
        (lambda: pathological(LABELS, 200, 4, 0), "80 clients are to share a class of 60 examples"),
        (lambda: biased(LABELS, 80, 0), "80 clients need 80 examples of a class"),
    ],
)
def test_what_cannot_be_dealt_is_refused(deal, words):
    with pytest.raises(ValueError, match=words):
        deal()
