"""ObjectiveSampler: whole examples in the asked ratios, weights, exact resume, and what it says of itself."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, DataLoader

from equipoise.scaling import Anneal, DoReMi, GradientNorm, MixedData, ObjectiveSampler, Stages, Static

ratios = st.lists(st.floats(0.001, 1.0), min_size=2, max_size=12)


def named(p):
    return {f"o{place}": value for place, value in enumerate(p)}


@settings(deadline=None, max_examples=40)
@given(p=ratios, batch=st.sampled_from([1, 5, 64]))
def test_nobody_is_ahead_or_behind_by_one_example_at_any_step(p, batch):
    """Tijdeman 1980: within 1 - 1 / (2 m - 2) of the sum of ratios at every prefix."""
    sampler, counts = ObjectiveSampler(Static(named(p)), batch=batch), np.zeros(len(p))
    share = np.array(p) / sum(p)
    for step in range(1, 60):
        turn = next(sampler)
        assert sum(turn.counts.values()) == batch
        counts += [turn.counts.get(name, 0) for name in sampler.names]
        assert np.abs(counts - step * batch * share).max() <= 1 - 1 / (2 * len(p) - 2) + 1e-9


def test_drawing_adds_noise_that_dealing_does_not():
    far = {}
    for rounding in ("low-discrepancy", "multinomial"):
        sampler = ObjectiveSampler(Static({"a": 1, "b": 1}), rounding=rounding, steps=400)
        dealt = sum(turn.counts.get("a", 0) for turn in sampler)
        far[rounding] = abs(dealt - 200)
    assert far["low-discrepancy"] == 0
    assert far["multinomial"] > 0


def test_weights_in_the_place_of_ratios():
    sampler = ObjectiveSampler(Static({"a": 3, "b": 1}), batch=8, mode="weight")
    turn = next(sampler)
    assert turn.counts == {"a": 4, "b": 4}
    assert turn.weights == {"a": 1.5, "b": 0.5}
    assert next(ObjectiveSampler(Static({"a": 3, "b": 1}), batch=8)).weights == {"a": 1.0, "b": 1.0}


def test_importance_factors_are_the_weights():
    schedule = GradientNorm(("a", "b"), trust=1.0)
    schedule.observe({"a": 3.0, "b": 1.0})
    assert next(ObjectiveSampler(schedule)).weights == {"a": pytest.approx(2 / 3)}


def test_a_restart_is_announced_once():
    sampler = ObjectiveSampler(Stages([(0.5, "a"), (0.5, {"a": 1, "b": 1})]), steps=10)
    assert [turn.step for turn in sampler if turn.restart] == [5]


@pytest.mark.parametrize("rounding", ["low-discrepancy", "multinomial"])
def test_a_resumed_sampler_goes_on_exactly(rounding):
    def made():
        return ObjectiveSampler(
            Anneal({"a": 3, "b": 1, "c": 1}, {"c": 1}), steps=50, batch=3, rounding=rounding, seed=7
        )

    whole, first, second = made(), made(), made()
    turns = list(whole)
    for _ in range(20):
        next(first)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert list(second) == turns[20:]
    assert second.average == whole.average
    assert second.health() == whole.health()


def test_health_says_who_was_never_seen_and_whether_the_mean_has_settled():
    sampler = ObjectiveSampler(Static({"a": 0.999, "b": 0.001}), steps=100)
    list(sampler)
    health = sampler.health()
    assert health.missing == ("b",)
    assert health.settled
    assert health.effective == pytest.approx(
        math.exp(-0.999 * math.log(0.999) - 0.001 * math.log(0.001)), rel=1e-6
    )
    assert "nearly all goes to one objective" in str(health)
    assert "never seen: b" in str(health)
    moving = ObjectiveSampler(Anneal({"a": 1}, {"b": 1}), steps=100)
    list(moving)
    assert not moving.health().settled
    assert "not settled" in str(moving.health())
    assert str(ObjectiveSampler(Static({"a": 1, "b": 1})).health()) == "no step yet"


def test_the_answer_of_doremi_is_the_mean_over_the_steps():
    schedule = DoReMi(("a", "b"))
    sampler, seen = ObjectiveSampler(schedule, mode="weight"), []
    for _ in range(20):
        seen.append(next(sampler).p["a"])
        schedule.observe({"a": 0.3})
    assert sampler.average["a"] == pytest.approx(np.mean(seen))
    assert sampler.average["a"] < seen[-1]


def test_long_runs_keep_few_points_of_the_past():
    sampler = ObjectiveSampler(Static({"a": 1, "b": 1}))
    for _ in range(3000):
        next(sampler)
    assert len(sampler.state_dict()["course"]["past"]) <= 40
    assert max(sampler.health().drift.values()) < 1e-12


def test_bad_input_is_told_by_name():
    with pytest.raises(ValueError, match="batch is 0"):
        ObjectiveSampler(Static({"a": 1, "b": 1}), batch=0)
    with pytest.raises(ValueError, match="mode is 'both'"):
        ObjectiveSampler(Static({"a": 1, "b": 1}), mode="both")
    with pytest.raises(ValueError, match="Anneal needs the number of steps"):
        ObjectiveSampler(Anneal({"a": 1}, {"b": 1}))
    state = ObjectiveSampler(Static({"a": 1, "b": 1})).state_dict()
    with pytest.raises(ValueError, match="the state is of a, b, not of x, y"):
        ObjectiveSampler(Static({"x": 1, "y": 1})).load_state_dict(state)


def mixed(steps=12):
    sampler = ObjectiveSampler(Static({"a": 3, "b": 1}), batch=4, steps=steps)
    return MixedData({"a": 10, "b": 3}, sampler)


def test_batches_over_joined_data_sets_see_all_before_any_again():
    loader = DataLoader(ConcatDataset([range(10), range(100, 103)]), batch_sampler=mixed())
    seen = [int(x) for batch in loader for x in batch]
    small, large = [x for x in seen if x >= 100], [x for x in seen if x < 100]
    assert len(small) == 12
    assert len(large) == 36
    for start in (0, 3, 6, 9):
        assert sorted(small[start : start + 3]) == [100, 101, 102]
    assert sorted(large[:10]) == list(range(10))
    assert small[:3] != small[3:6] or large[:10] != large[10:20]


def test_a_resumed_loader_gives_the_rest_of_the_batches():
    whole = list(mixed())
    first, second = mixed(), mixed()
    batches = iter(first)
    for _ in range(5):
        next(batches)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert len(second) == 7
    assert list(second) == whole[5:]
    assert second.epochs == {"a": 3.6, "b": 4.0}


def test_sizes_and_sampler_must_agree():
    sampler = ObjectiveSampler(Static({"a": 3, "b": 1}))
    with pytest.raises(ValueError, match="b, c: in the sizes or in the sampler"):
        MixedData({"a": 3, "c": 1}, sampler)
    with pytest.raises(ValueError, match="sizes"):
        MixedData({"a": 3, "b": 0}, sampler)
