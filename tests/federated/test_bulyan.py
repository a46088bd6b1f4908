import numpy as np
import pytest
import torch
from tests.federated.watched import answers, digits, edges, invented, run, ways_agree

from equipoise.federated import Bulyan, SignFlip


def krum_choice(rows, byzantine):
    """Blanchard et al. 2017 with explicit distances: the least score, by one neighbour at least."""
    distances = ((rows[:, None] - rows[None]) ** 2).sum(2)
    count = max(len(rows) - byzantine - 2, 1)
    near = [np.sort(np.delete(line, i)) for i, line in enumerate(distances)]
    return min(range(len(rows)), key=lambda i: (near[i][:count].sum(), *near[i][count : count + 1]))


def bulyan(rows, byzantine):
    """El Mhamdi et al. 2018, one coordinate after the other."""
    left, chosen = list(range(len(rows))), []
    while len(chosen) < len(rows) - 2 * byzantine:
        chosen.append(left.pop(krum_choice(rows[left], byzantine)))
    selected, keep = rows[chosen], len(chosen) - 2 * byzantine
    found = np.empty(rows.shape[1])
    for k, values in enumerate(selected.T):
        by_distance = sorted(values, key=lambda value: abs(value - np.median(values)))
        found[k] = np.mean(by_distance[:keep])
    return found


@pytest.mark.parametrize("liars", [0, 2])
def test_a_round_is_that_of_the_paper(liars):
    """Eleven clients, f = 2 of them at most anything."""
    names = digits(client_count=11, train=400).clients
    attacks = {name: SignFlip(3.0) for name in names[:liars]}
    _, seen = run(Bulyan(), 2, on=digits(client_count=11, train=400, split="iid"), attacks=attacks)
    for one in seen:
        np.testing.assert_allclose(one.step, bulyan(one.updates, 2), rtol=1e-9, atol=1e-15)
        assert one.outcome.notes == {"byzantine": 2}
        assert all(one.outcome.weights[:liars] == 0)


def test_one_bad_coordinate_cannot_hide_behind_many_good_ones():
    """The attack of the paper: liars at the honest mean, but for one coordinate that is off by ~ sqrt d.

    Krum follows them, since the others differ as much from each other in all coordinates together.
    """
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(9, 2000))
    liars = np.tile(honest.mean(0), (2, 1))
    liars[:, 7] += 0.6 * np.sqrt(2000)
    rows = np.concatenate([honest, liars])
    assert krum_choice(rows, 2) >= 9
    names = tuple("abcdefghijk")
    round = invented(rows[:8], np.zeros(8))
    round.bundle.names, round.bundle.blocks = names, {"w": torch.from_numpy(rows)}
    step = answers(Bulyan(), round).update["w"].numpy()
    assert honest[:, 7].min() <= step[7] <= honest[:, 7].max()
    assert np.all((honest.min(0) <= step) & (step <= honest.max(0)))


def test_without_liars_to_fear_it_is_the_plain_mean():
    rows = np.random.default_rng(1).normal(size=(8, 5))
    step = answers(Bulyan(byzantine=0, learning_rate=0.5), invented(rows, np.zeros(8))).update["w"]
    np.testing.assert_allclose(step.numpy(), 0.5 * rows.mean(0), rtol=1e-12)


def test_too_few_replies_lower_what_is_withstood_and_say_so():
    rows = np.random.default_rng(1).normal(size=(7, 5))
    found = answers(Bulyan(byzantine=5), invented(rows, np.zeros(7)))
    assert found.notes == {"byzantine": 1}
    np.testing.assert_allclose(found.update["w"].numpy(), bulyan(rows, 1), rtol=1e-12)


def test_a_huge_liar_does_not_blur_the_scores_of_the_others():
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(7, 4))
    rows[3] = 1e9
    found = answers(Bulyan(), invented(rows, np.zeros(7)))
    np.testing.assert_allclose(found.update["w"].numpy(), bulyan(rows, 1), rtol=1e-7)


def test_the_order_of_clients_does_not_matter():
    rows = np.random.default_rng(3).normal(size=(7, 6))
    step = answers(Bulyan(), invented(rows, np.zeros(7))).update["w"]
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(7)
        again = answers(Bulyan(), invented(rows[order], np.zeros(7))).update["w"]
        torch.testing.assert_close(again, step, rtol=1e-12, atol=1e-14)


def test_hard_rounds():
    edges(Bulyan())
    answers(Bulyan(), invented([[1.0, 2.0]] * 8, [0.0] * 8))


def test_both_ways_of_training_agree():
    ways_agree(Bulyan())


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match="byzantine is -1"):
        Bulyan(byzantine=-1)
    with pytest.raises(ValueError, match="learning_rate is 0"):
        Bulyan(learning_rate=0)
