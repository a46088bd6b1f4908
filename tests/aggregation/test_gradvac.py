import math

import pytest
import torch
from torch import Tensor

from equipoise.aggregation import GradVac, PCGrad
from equipoise.core.step import Step

HAND = torch.tensor([[4.0, -2.0], [-2.0, 2.0]], dtype=torch.float64)


def random_gramian(m: int, seed: int = 0) -> Tensor:
    rows = torch.randn(m, m + 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return rows @ rows.T


def step(gramian: Tensor, names: tuple[str, ...] = ("a", "b")) -> Step:
    return Step(names, torch.ones(len(names), dtype=torch.float64), None, gramian)


def test_the_first_answer_is_that_of_pcgrad():
    """Wang et al. 2021, section 4: PCGrad is the case of targets at zero."""
    for m in (2, 3, 8):
        gramian = random_gramian(m, seed=m)
        wanted = PCGrad()(gramian)
        torch.testing.assert_close(GradVac()(gramian), wanted)
        torch.testing.assert_close(GradVac(order="cyclic")(gramian), PCGrad(order="cyclic")(gramian))


def test_after_a_turn_the_cosine_is_the_target():
    """Wang et al. 2021, equation 2: the multiple of g_j that is added gives the cosine t with g_j."""
    rule = GradVac(beta=1.0)
    agreeing = torch.tensor([[1.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
    rule.update(step(agreeing))
    turned, _ = rule._turned(HAND, ("a", "b"))
    rows = torch.tensor([[2.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    moved = torch.from_numpy(turned) @ rows
    for i, j in ((0, 1), (1, 0)):
        cosine = moved[i] @ rows[j] / moved[i].norm() / rows[j].norm()
        assert float(cosine) == pytest.approx(0.6, abs=1e-12)


def test_targets_are_averages_of_cosines_met():
    rule = GradVac(beta=0.25)
    cosine = -2 / math.sqrt(8)
    rule.update(step(HAND))
    assert rule.read("targets", ("a -> b",)).item() == pytest.approx(0.25 * cosine)
    rule.update(step(HAND))
    assert rule.read("targets", ("b -> a",)).item() == pytest.approx(0.25 * cosine + 0.75 * 0.25 * cosine)


def test_targets_go_with_names():
    rule = GradVac(beta=1.0)
    rule.update(step(torch.tensor([[1.0, 0.6], [0.6, 1.0]], dtype=torch.float64)))
    there = rule(HAND, names=("a", "b"))
    torch.testing.assert_close(rule(HAND.flip(0, 1), names=("b", "a")), there.flip(0))
    torch.testing.assert_close(rule(HAND, names=("c", "d")), GradVac()(HAND))


def test_a_target_of_one_is_finite():
    rule = GradVac(beta=1.0)
    rule.update(step(torch.ones(2, 2, dtype=torch.float64)))
    assert rule(HAND, names=("a", "b")).isfinite().all()


@pytest.mark.parametrize("options", [{"beta": -0.1}, {"beta": 1.5}, {"order": "any"}])
def test_refusals(options):
    with pytest.raises(ValueError, match=r"beta is|no order"):
        GradVac(**options)
