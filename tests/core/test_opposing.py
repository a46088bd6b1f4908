import math

import pytest
import torch

import equipoise
from equipoise import Bundle
from equipoise.core.diagnosis import Diagnosis
from equipoise.core.opposing import find_opposing, swings

CHANGES = {"sky": 2.0, "grass": -3.0, "cat": 0.2, "dog": -0.1}


def pets() -> Bundle:
    """Two samples that pull a shared feature apart, and two that do not care for it."""
    rows = torch.tensor([[5.0, 1.0], [-5.0, 1.0], [0.1, 1.0], [-0.1, 1.0]])
    return Bundle(["sky", "grass", "cat", "dog"], {"w": rows})


def test_groups_hold_the_largest_changes_and_oppose_each_other():
    found = find_opposing(CHANGES, pets())
    assert (found.rose, found.fell) == (("sky",), ("grass",))
    assert (found.rise, found.fall) == (2.0, -3.0)
    assert found.share == pytest.approx(5 / 5.3)
    assert found.cosine == pytest.approx(-24 / 26)


def test_the_cosine_is_between_the_mean_directions_of_the_groups():
    rows = torch.randn(40, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    changes = torch.randn(40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    names = [f"s{i}" for i in range(40)]
    found = find_opposing(dict(zip(names, changes, strict=True)), Bundle(names, {"w": rows}), count=5)
    order = changes.argsort(descending=True)
    assert found.rose == tuple(names[i] for i in order[:5])
    assert found.fell == tuple(names[i] for i in order.flip(0)[:5])
    up, down = rows[order[:5]].mean(0), rows[order[-5:]].mean(0)
    assert found.cosine == pytest.approx(float(torch.cosine_similarity(up, down, dim=0)))


def test_a_twentieth_of_the_samples_is_a_group():
    changes = {f"s{i}": i - 50.5 for i in range(100)}
    found = find_opposing(changes)
    assert found.rose == ("s99", "s98", "s97", "s96", "s95")
    assert found.fell == ("s0", "s1", "s2", "s3", "s4")
    assert found.cosine is None


def test_a_group_holds_nobody_who_moved_the_other_way():
    found = find_opposing({"a": -1.0, "b": -2.0, "c": 0.0}, count=2)
    assert (found.rose, found.fell) == ((), ("b", "a"))
    assert (found.rise, found.fall, found.share) == (0.0, -1.5, 1.0)
    still = find_opposing({"a": 0.0})
    assert (still.rose, still.fell, still.share) == ((), (), 0.0)


def test_cancelling_directions_have_cosine_zero():
    bundle = Bundle(["a", "b", "c"], {"w": torch.tensor([[1.0], [-1.0], [2.0]])})
    assert find_opposing({"a": 1.0, "b": 1.0, "c": -1.0}, bundle, count=2).cosine == 0.0


def test_swings_tell_apart_who_rises_while_others_fall():
    """Losses that return to where they were have no sum of changes, but a pattern."""
    time = torch.arange(6)
    wave = (-1.0) ** time
    losses = torch.stack([5 + 2 * wave, 5 - 3 * wave, 5 - 0.1 * time, 5 + 1 * wave], dim=1)
    found = swings(losses)
    last = losses[-1] - losses[-2]
    assert found.sign().tolist()[:2] == last.sign().tolist()[:2]
    assert float(found[1] / found[0]) == pytest.approx(-1.5, rel=1e-3)
    assert abs(float(found[2])) < 0.1
    assert torch.equal(swings(losses[:2]), (losses[1] - losses[0]).double())


def test_the_diagnosis_names_the_groups():
    found = equipoise.diagnose(pets(), changes=CHANGES)
    assert found.opposing == find_opposing(CHANGES, pets())
    assert "The loss of sky rose most, by 2. The loss of grass fell most, by 3." in found.reading()
    assert "The mean directions of these two groups oppose each other (cosine -0.92)." in found.reading()
    assert "94.3% of all changes, cosine between their mean directions -0.923" in found.table()
    assert Diagnosis.from_json(found.to_json()) == found
    assert equipoise.diagnose(pets()).opposing is None


def test_changes_may_be_tensors_in_any_order():
    turned = {name: torch.tensor(CHANGES[name]) for name in reversed(CHANGES)}
    found, wanted = find_opposing(turned, pets()), find_opposing(CHANGES, pets())
    assert (found.rose, found.fell) == (wanted.rose, wanted.fell)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "no changes of loss"),
        ({"sky": 1.0, "grass": 1.0, "cat": 1.0}, "a direction without a change of loss: .*'dog'"),
        (CHANGES | {"skye": 1.0}, "a change of loss without a direction: .*'skye'; nearest: sky"),
        (CHANGES | {"cat": math.nan}, "the change of loss of 'cat' is nan"),
    ],
)
def test_changes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        equipoise.diagnose(pets(), changes=changes)


def test_a_group_of_none_and_a_window_of_one_are_refused():
    with pytest.raises(ValueError, match="count is 0"):
        find_opposing(CHANGES, count=0)
    with pytest.raises(ValueError, match=r"\(1, 3\)"):
        swings(torch.ones(1, 3))
