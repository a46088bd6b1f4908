import pytest
import torch

from equipoise.aggregation import AGEM, GEM, PCD, OrthogonalUpdate
from equipoise.core.step import Step

RULES = pytest.mark.parametrize("kind", [AGEM, GEM, OrthogonalUpdate, PCD])
ROWS = torch.tensor([[2.0, 0.0, 1.0], [-1.0, 1.0, 0.0], [-1.0, -0.5, 2.0]], dtype=torch.float64)
GRAMIAN = ROWS @ ROWS.T


def step(*names, **others):
    size = len(names)
    ones = torch.ones(size, dtype=torch.float64)
    return Step(names, ones, ones, torch.eye(size, dtype=torch.float64), **others)


def asked(rule, *names):
    """The weights by name, of directions that go with the names."""
    places = ["abc".index(name) for name in names]
    found = rule.apply_to(GRAMIAN[places][:, places], names=names)
    return dict(zip(names, found.tolist(), strict=True))


@RULES
def test_by_name_or_the_first(kind):
    assert asked(kind(primary="b"), "a", "b") == pytest.approx(asked(kind(), "b", "a"))
    assert asked(kind(), "a", "b") != pytest.approx(asked(kind(), "b", "a"))


@RULES
def test_an_unknown_name_lists_its_neighbours(kind):
    with pytest.raises(ValueError, match=r"'quality'; nearest: Quality; .*objectives=\[...\]\)"):
        kind(primary="quality")(GRAMIAN[:2, :2], names=("Quality", "speed"))
    rule = kind(primary="quality")
    rule.update(step("Quality", "speed"))
    with pytest.raises(ValueError, match="'quality'; nearest: Quality"):
        rule(GRAMIAN[:1, :1], names=("speed",))
    with pytest.raises(ValueError, match="'quality'; nearest: Quality"):
        kind(primary="quality", objectives=["Quality", "speed"])


@RULES
def test_where_it_is_absent_nothing_moves_and_nobody_takes_its_place(kind):
    """A step that lacks the task at hand, or skips it, does not train a memory task in its stead."""
    rule = kind(primary="a")
    rule.update(step("a", "b", "c"))
    before = asked(rule, "a", "b", "c")
    assert asked(rule, "b", "c") == {"b": 0.0, "c": 0.0}
    rule.update(step("b", "c"))
    assert asked(rule, "a") == pytest.approx({"a": 1.0})
    if kind is not PCD:  # whose averages of b and c have moved
        assert asked(rule, "c", "a", "b") == pytest.approx(before)


@RULES
def test_without_a_name_the_first_of_the_first_step_is_remembered(kind):
    rule = kind()
    rule.update(step("c", "b", overflowed=True))
    rule.update(step("a", "b"))
    rule.update(step("b", "a"))
    assert asked(rule, "c", "b", "a") == pytest.approx(asked(kind(primary="a"), "a", "b", "c"), rel=0.5)
    assert asked(rule, "b", "c") == {"b": 0.0, "c": 0.0}
    fresh = kind()
    fresh.load_state_dict(rule.state_dict())
    assert asked(fresh, "b", "c") == {"b": 0.0, "c": 0.0}


@RULES
def test_names_given_at_the_start_may_come_late(kind):
    rule = kind(primary="a", objectives=["a", "b", "c"])
    assert asked(rule, "b", "c") == {"b": 0.0, "c": 0.0}
    rule.update(step("b", "c"))
    assert asked(rule, "b") == {"b": 0.0}
    with pytest.raises(ValueError, match="no objective is called 'd'"):
        rule.update(step("a", "d"))
