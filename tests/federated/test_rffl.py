from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.federated.watched import answers, digits, edges, flat, invented, run, ways_agree

from equipoise.federated import RFFL, FreeRider, Participation


class Authors:
    """The authors' round in NumPy, blocks as slices of one vector; a client moves by its reward alone."""

    def __init__(self, samples, blocks, clip=0.5, alpha=0.95, threshold=1 / 3):
        self.samples, self.blocks = samples, blocks
        self.clip, self.alpha, self.threshold = clip, alpha, threshold
        self.reputation = np.zeros(len(samples))
        self.left = set(range(len(samples)))

    def round(self, updates, number):
        """Rounds are counted from 0, as there."""
        lengths = np.linalg.norm(updates, axis=1)
        clipped = updates * np.minimum(1, self.clip / lengths)[:, None]
        weights = self.samples / self.samples.sum() if number == 0 else self.reputation
        total = weights @ clipped
        cosines = clipped @ total / (np.linalg.norm(clipped, axis=1) * np.linalg.norm(total))
        r = self.alpha * self.reputation + (1 - self.alpha) * cosines
        r[[i for i in range(len(r)) if i not in self.left]] = 0
        r = r / r.sum()
        if number >= 10:
            limit = self.threshold / len(self.left)
            for i in sorted(self.left):
                if r[i] < limit:
                    r[i] = 0
                    self.left.remove(i)
        self.reputation = r / r.sum()
        return total, [self.rewarded(total, q) for q in self.reputation / self.reputation.max()]

    def rewarded(self, total, share):
        found = np.zeros_like(total)
        for block in self.blocks:
            size = np.abs(total[block])
            count = int(np.ceil(share * len(size)))
            largest = np.argsort(size)[len(size) - count :]
            found[block][largest] = total[block][largest]
        return found


def models(state):  # -> (m, d)
    return flat({name: t for name, t in state.items() if name.startswith("models/")}, rows=True)


def test_rounds_are_those_of_the_authors_with_free_riders_removed():
    """Twelve rounds; the two free riders go in the eleventh, the first in which anybody can."""
    on = digits(client_count=7, train=210, split="iid")
    riders = on.clients[-2:]
    _, seen = run(RFFL(), 12, on=on, attacks=dict.fromkeys(riders, FreeRider()))
    theirs = Authors(np.full(7, 30.0), (slice(0, 640), slice(640, 650)))
    for number, one in enumerate(seen):
        total, rewards = theirs.round(one.updates, number)
        np.testing.assert_allclose(one.step, total, rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(one.outcome.state["reputation"], theirs.reputation, rtol=1e-9)
        moved = models(one.outcome.state) - models(one.state)
        np.testing.assert_allclose(moved, rewards, rtol=1e-6, atol=1e-12)
        assert one.outcome.notes["removed"] == ([] if number < 10 else list(riders))
    assert seen[-1].outcome.weights[-2:].tolist() == [0, 0]


def test_equal_clients_have_equal_reputations_and_get_everything():
    found = answers(RFFL(), invented([[3.0, 4.0]] * 4, [0.0] * 4))
    np.testing.assert_allclose(found.update["w"], [0.3, 0.4], rtol=1e-12)
    np.testing.assert_allclose(found.state["reputation"], 0.25, rtol=1e-12)
    np.testing.assert_allclose(found.state["models/w"], [[0.3, 0.4]] * 4, rtol=1e-12)


def test_who_agrees_less_gets_less():
    """A client at right angles to two others has the least cosine, and gets the larger entry alone."""
    found = answers(RFFL(), invented([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0.0] * 3))
    reputation = found.state["reputation"]
    assert reputation[0] == reputation[1] > reputation[2] > 0
    given = found.state["models/w"]
    assert torch.equal(given[0], found.update["w"])
    assert given[2].tolist() == [found.update["w"][0].item(), 0.0] or given[2].tolist() == given[0].tolist()
    assert torch.count_nonzero(given[2]) == int(np.ceil(2 * float(reputation[2] / reputation[0])))


def test_without_rewards_all_get_the_model_and_none_is_kept():
    system = RFFL(rewards=False)
    found = answers(system, invented([[1.0, 0.0], [0.0, 1.0]], [0.0] * 2))
    assert set(found.state) == {"reputation", "replies", "removed"}
    parameters = {"w": torch.zeros(2)}
    assert system.server.received(found.state, parameters, "a") is parameters


def test_a_removed_client_counts_no_more_and_its_model_stays():
    system, state = RFFL(patience=0), None
    first = invented([[1.0, 0.0]] * 3 + [[-1.0, 0.0]], [0.0] * 4)
    state = answers(system, first).state
    assert state["removed"].tolist() == [False, False, False, True]
    later = replace(first, number=2)
    found = answers(system, later, state)
    np.testing.assert_allclose(found.update["w"], [0.5, 0.0], rtol=1e-12)
    assert torch.equal(found.state["models/w"][3], state["models/w"][3])
    only = replace(invented([[-1.0, 0.0]], [0.0], everyone=("a", "b", "c", "d"), number=3))
    only.bundle.names = ("d",)
    found = answers(system, only, found.state)
    assert found.update["w"].tolist() == [0, 0]
    assert not bool(found.state["reputation"].isnan().any())


def test_honest_clients_stay_where_few_take_part():
    """The memory of those that were not asked does not fade against those that were."""
    _, seen = run(RFFL(), 60, on=digits(split="iid"), participation=Participation(count=2))
    assert seen[-1].outcome.notes["removed"] == []
    assert min(seen[-1].outcome.state["reputation"]) > 0.1
    for one in seen:
        assert abs(float(one.outcome.state["reputation"].sum()) - 1) < 1e-12


def test_hard_rounds():
    edges(RFFL())
    edges(RFFL(rewards=False, patience=0))


def test_both_ways_of_training_agree():
    ways_agree(RFFL())


@pytest.mark.parametrize("option", [{"clip": 0}, {"alpha": 1}, {"threshold": -1}, {"patience": -1}])
def test_options_out_of_range_are_refused(option):
    with pytest.raises(ValueError, match=f"{next(iter(option))}.* is|{next(iter(option))} "):
        RFFL(**option)
