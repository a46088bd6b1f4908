from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.federated.watched import answers, edges, flat, invented, run, ways_agree

from equipoise.federated import OMDTCH, Participation

CLIENTS = [f"client-0{i}" for i in range(5)]


def projected(vector):
    """The nearest point of the simplex, by bisection of the threshold."""
    low, high = vector.min() - 1, vector.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(vector - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(vector - low, 0)


def climbed(shares, gain, geometry):
    if geometry == "projected":
        return projected(shares + gain)
    return shares * np.exp(gain) / (shares * np.exp(gain)).sum()


@pytest.mark.parametrize("geometry", ["exponentiated", "projected"])
@pytest.mark.parametrize("losses", ["before", "during"])
def test_steps_and_weights_are_those_of_the_algorithm(geometry, losses):
    preference = dict(zip(CLIENTS, [1.0, 2.0, 1.0, 3.0, 1.0], strict=True))
    p = np.array(list(preference.values())) / 1.6
    system = OMDTCH(geometry=geometry, step_size=0.7, preference=preference, losses=losses)
    _, seen = run(system, 4)
    shares = np.full(5, 0.2)
    for one in seen:
        np.testing.assert_allclose(one.step, (shares * p) @ one.updates, rtol=1e-9, atol=1e-14)
        found = one.losses("loss" if losses == "before" else "loss_during")
        shares = climbed(shares, 0.7 * p * found, geometry)
    assert shares.max() > 0.3


def test_the_average_is_of_the_models_that_were_sent():
    finished, seen = run(OMDTCH(), 4)
    wanted = np.mean([flat(one.round.parameters) for one in seen], 0)
    found = flat(dict(finished.outputs["average"].named_parameters()))
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-14)
    assert "average" not in OMDTCH().server.outputs(OMDTCH().server.start({}, ("a",)), {})


def test_the_worst_weighted_loss_of_quadratics_is_found():
    """min max(p_k |w - c_k|^2) over a line: where p_1 (w - c_1)^2 = p_2 (w - c_2)^2."""
    preference, centres = {"a": 1.0, "b": 4.0}, torch.tensor([0.0, 3.0], dtype=torch.float64)
    server = OMDTCH(step_size=0.05, preference=preference, losses="during").server
    at, total = torch.zeros(1, dtype=torch.float64), 0.0
    state = server.start({"w": at}, ("a", "b"))
    for _ in range(3000):
        apart = centres - at
        round = invented((0.04 * apart)[:, None], apart**2)
        outcome = server.aggregate(state, round)
        at, state = at + outcome.update["w"], outcome.state
        total += at.item() / 3000
    assert total == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize("geometry", ["exponentiated", "projected"])
def test_absent_clients_keep_their_weight_and_the_others_share_the_round(geometry):
    _, seen = run(OMDTCH(geometry=geometry), 3, participation=Participation(count=2))
    for one in seen:
        assert one.outcome.weights.sum() == pytest.approx(1)
        state, places = one.state, [CLIENTS.index(name) for name in one.round.names]
        shares = (state["logits"].softmax(0) if "logits" in state else state["shares"])[places]
        np.testing.assert_allclose(one.outcome.weights, shares / shares.sum(), rtol=1e-12)
    absent = [name not in seen[0].round.names for name in CLIENTS]
    after = seen[0].outcome.state
    kept = (after["logits"] if "logits" in after else after["shares"])[torch.tensor(absent)]
    assert (kept == kept[0]).all()


def test_clients_without_weight_count_alike_where_they_are_alone():
    system = OMDTCH(geometry="projected", step_size=10.0)
    state = answers(system, invented(np.eye(3), [5.0, 0.1, 0.1])).state
    assert state["shares"].tolist() == [1, 0, 0]
    lonely = invented(np.eye(2), [1.0, 1.0], everyone=("x", "a", "b"))
    assert answers(system, lonely, state | {"average/w": torch.zeros(2)}).weights.tolist() == [0.5, 0.5]


def test_the_average_of_models_in_half_precision_is_kept_wider():
    server = OMDTCH().server
    round, state = invented(np.eye(2), [1.0, 1.0]), server.start({"w": torch.zeros(2).bfloat16()}, ("a", "b"))
    for number in range(300):
        sent = {"w": torch.full((2,), float(number % 3)).bfloat16()}
        state = server.aggregate(state, replace(round, parameters=sent)).state
    average = server.outputs(state, {"w": torch.zeros(2).bfloat16()})["average"]["w"]
    assert state["average/w"].tolist() == pytest.approx([1, 1], abs=1e-5)
    assert average.dtype == torch.bfloat16


@pytest.mark.parametrize("geometry", ["exponentiated", "projected"])
def test_hard_rounds(geometry):
    edges(OMDTCH(geometry=geometry))


def test_both_ways_of_training_agree():
    ways_agree(OMDTCH(step_size=1.0))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"step_size": 0.0}, "step_size is 0.0"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"geometry": "flat"}, "geometry is 'flat'"),
    ],
)
def test_options_out_of_range_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        OMDTCH(**options)


@pytest.mark.parametrize(
    ("preference", "match"),
    [
        ({"clint-00": 1.0}, "client-00"),
        ({"client-00": 1.0}, "lacks 'client-01'"),
        ({"client-00": 0.0}, "above 0"),
    ],
)
def test_a_preference_must_be_of_all_clients(preference, match):
    with pytest.raises(ValueError, match=match):
        run(OMDTCH(preference=preference), 1)
