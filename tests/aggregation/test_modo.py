import pytest
import torch

from equipoise.aggregation import MGDA, MoCo, MoDo
from equipoise.core.step import Step
from equipoise.testing.ask import advance, ask

HAND = torch.tensor([[4.0, -2.0], [-2.0, 2.0]], dtype=torch.float64)
NAMES = ("a", "b")


def step(gramian: torch.Tensor, weights: torch.Tensor | None = None) -> Step:
    weights = torch.full((len(gramian),), 0.5) if weights is None else weights
    return Step(NAMES, torch.ones(2, dtype=torch.float64), weights, gramian)


def test_one_step_from_equal_weights_by_hand():
    """A w = (1, 0): w - 0.1 A w = (0.4, 0.5), and both get 0.05 to sum to one; rho shifts both alike."""
    assert MoDo(relative=False)(HAND).tolist() == pytest.approx([0.45, 0.55])
    assert MoDo(rho=0.0)(HAND).tolist() == pytest.approx([0.5 - 0.05 / 3, 0.5 + 0.05 / 3])


def test_a_second_step_by_hand():
    """w = (0.45, 0.55): A w = (0.7, 0.2); w - 0.1 A w - 0.01 w = (0.3755, 0.5245), each plus 0.05."""
    rule = MoDo(relative=False)
    rule.update(step(HAND))
    assert rule(HAND, names=NAMES).tolist() == pytest.approx([0.4255, 0.5745])


def test_the_inner_products_are_taken_first_batch_by_second():
    """Chen et al. 2023, equation 2.9a: J1 J2' w, not its transpose."""
    cross = torch.tensor([[1.0, 3.0], [-1.0, 1.0]], dtype=torch.float64)
    assert MoDo(relative=False, rho=0.0)(cross).tolist() == pytest.approx([0.4, 0.6])
    assert MoDo(relative=False, rho=0.0)(cross.T).tolist() == pytest.approx([0.6, 0.4])


def test_steps_lead_to_the_min_norm_weights():
    rule = MoDo(rho=0.0)
    for _ in range(500):
        rule.update(step(HAND))
    torch.testing.assert_close(rule(HAND, names=NAMES), MGDA()(HAND), rtol=1e-6, atol=1e-6)


def test_rho_pulls_towards_equal_weights():
    """(A / s + rho I) w with s = 3 is the same for both at w1 = (4/3 + rho) / (10/3 + 2 rho), by hand."""
    for rho in (0.1, 1.0, 100.0):
        rule = MoDo(rho=rho, gamma=0.1 / (1 + rho))
        for _ in range(3000):
            rule.update(step(HAND))
        expected = (4 / 3 + rho) / (10 / 3 + 2 * rho)
        assert float(rule(HAND, names=NAMES)[0]) == pytest.approx(expected, abs=1e-6)


def test_weights_go_with_names_and_a_late_one_starts_at_the_mean():
    rule = MoDo(relative=False)
    rule.update(step(HAND))
    torch.testing.assert_close(rule(HAND.flip(0, 1), names=("b", "a")), rule(HAND, names=NAMES).flip(0))
    shares = rule.shares_of(("a", "b", "c"))
    assert shares.tolist() == pytest.approx([0.3, 0.55 * 2 / 3, 1 / 3])


def test_refusals():
    for options in ({"gamma": 0.0}, {"rho": -1.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            MoDo(**options)


@pytest.mark.parametrize("kind", [MoDo, MoCo])
def test_one_alone_learns_nothing_from_that(kind):
    """What each has of the weight of all stays when it is alone in a batch, and two share out theirs."""
    rule, names = kind(), ("a", "b", "c")
    rows = torch.tensor([[4.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    for _ in range(5):
        advance(rule, rows, names=names)
    before = rule.shares_of(names)
    assert float(before.max() - before.min()) > 0.1
    for i, name in enumerate(names):
        assert ask(rule, rows[i : i + 1], names=(name,)).weights.tolist() == [1.0]
        advance(rule, rows[i : i + 1], names=(name,))
    torch.testing.assert_close(rule.shares_of(names), before)
    advance(rule, rows[1:], names=names[1:])
    after = rule.shares_of(names)
    torch.testing.assert_close(after[0], before[0])
    assert not torch.allclose(after, before)
