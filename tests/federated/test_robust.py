"""Rules against liars: what each one's theory promises, held in every round of a run."""

import numpy as np
import pytest
from tests.federated.watched import digits, run

from equipoise.aggregation import CoordinateMedian, GeometricMedian, Krum, MultiKrum, TrimmedMean
from equipoise.federated import Bulyan, FedAvg, FreeRider, Local, SignFlip
from equipoise.federated.byrule import ByRule

LIARS = 2
ATTACKS = {"turned and long": SignFlip(10.0), "noise": FreeRider(3.0)}
CHOOSING = {"Krum": Krum(byzantine=LIARS), "MultiKrum": MultiKrum(byzantine=LIARS)}
BY_COORDINATE = {"CoordinateMedian": CoordinateMedian(), "TrimmedMean": TrimmedMean(beta=LIARS / 11)}


def attacked(system, attack, liars=LIARS, rounds=15):
    """Eleven equal clients, the first ones liars: the accuracy at the end, and every round."""
    on = digits(client_count=11, train=660, split="iid")
    done, seen = run(
        system,
        rounds,
        on=on,
        local=Local(steps=5, batch_size=None, learning_rate=0.5),
        attacks=dict.fromkeys(on.clients[:liars], attack),
        batching="batched",
        test=True,
    )
    accuracy = np.mean([one["score"] for one in done.test["last"].values()])
    return accuracy, [(one.updates[liars:], one) for one in seen]


@pytest.fixture(scope="module")
def clean():
    return attacked(FedAvg(), None, liars=0)[0]


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("rule", CHOOSING.values(), ids=CHOOSING)
def test_rules_that_choose_never_choose_a_liar(rule, attack):
    """Blanchard et al. 2017: 2f + 2 < m, and the honest ones lie closer together than to the liars.

    The end is where the same rule ends without liars: Krum follows one client in a round in any case.
    """
    clean, _ = attacked(ByRule(rule), None, liars=0)
    accuracy, rounds = attacked(ByRule(rule), attack)
    for _, one in rounds:
        assert one.outcome.weights[:LIARS].tolist() == [0.0] * LIARS
    assert accuracy > clean - 0.06


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("rule", BY_COORDINATE.values(), ids=BY_COORDINATE)
def test_rules_by_coordinate_stay_among_the_honest_values(rule, attack, clean):
    """Yin et al. 2018: where no more lie than are left out at each end, the honest ones enclose the step."""
    accuracy, rounds = attacked(ByRule(rule), attack)
    for honest, one in rounds:
        assert np.all(honest.min(0) - 1e-12 <= one.step)
        assert np.all(one.step <= honest.max(0) + 1e-12)
    assert accuracy > clean - 0.06


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_the_geometric_median_stays_near_the_honest_ones(attack, clean):
    """Minsker 2015, lemma 2.1: within 2 (m - f) / (m - 2 f) times the farthest honest one from any centre."""
    accuracy, rounds = attacked(ByRule(GeometricMedian()), attack)
    for honest, one in rounds:
        centre = honest.mean(0)
        radius = np.linalg.norm(honest - centre, axis=1).max()
        assert np.linalg.norm(one.step - centre) <= 2 * (11 - LIARS) / (11 - 2 * LIARS) * radius
    assert accuracy > clean - 0.06


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_bulyan_chooses_no_liar_and_stays_among_the_honest_values(attack, clean):
    accuracy, rounds = attacked(Bulyan(byzantine=LIARS), attack)
    for honest, one in rounds:
        assert one.outcome.weights[:LIARS].tolist() == [0.0] * LIARS
        assert np.all((honest.min(0) - 1e-12 <= one.step) & (one.step <= honest.max(0) + 1e-12))
    assert accuracy > clean - 0.06


def test_the_mean_withstands_neither(clean):
    for attack in ATTACKS.values():
        assert attacked(FedAvg(), attack)[0] < clean - 0.3


def test_a_majority_of_liars_rules_the_median():
    """The breakdown point is one half: six of eleven that send one thing get it."""
    accuracy, rounds = attacked(ByRule(CoordinateMedian()), SignFlip(10.0), liars=6)
    outside = [np.mean((one.step < honest.min(0)) | (one.step > honest.max(0))) for honest, one in rounds]
    assert max(outside) > 0.2
    assert accuracy < 0.3
