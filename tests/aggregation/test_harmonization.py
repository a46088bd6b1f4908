import pytest
import torch
from hypothesis import given
from tests.core.gramians import directions

from equipoise.aggregation import Harmonization, PCGrad, UPGrad


def rows(*lists):
    return torch.tensor(lists, dtype=torch.float64)


def by_the_paper(bundle):
    """Each direction without its parts along those that it conflicts with, from the vectors themselves."""
    harmonised = []
    for i, own in enumerate(bundle):
        left = own.clone()
        for j, other in enumerate(bundle):
            overlap = own @ other
            if i != j and overlap < 0:
                left -= overlap / (other @ other) * other
        harmonised.append(left)
    return torch.stack(harmonised)


@pytest.mark.parametrize(
    ("bundle", "weights"),
    [
        (rows([2, 0], [-1, 1]), (1.5, 2.0)),
        (rows([-4, 1, 1], [6, 1, 1]), (20 / 9, 30 / 19)),
        (rows([1, 0], [1, 2]), (1.0, 1.0)),
    ],
)
def test_two_directions_by_hand(bundle, weights):
    """w_i = 1 - min(0, g_1.g_2) / |g_i|^2; the sum where they agree."""
    assert Harmonization()(bundle @ bundle.T).tolist() == pytest.approx(weights, rel=1e-12)


@given(directions())
def test_two_directions_are_pcgrad_and_twice_upgrad(bundle):
    bundle = bundle[:2] / bundle[:2].norm(dim=1, keepdim=True).clamp(min=1e-300)
    gramian = bundle @ bundle.T
    found = Harmonization()(gramian) @ bundle
    torch.testing.assert_close(found, PCGrad()(gramian) @ bundle, rtol=1e-9, atol=1e-9)
    if len(bundle) == 2:
        torch.testing.assert_close(found, 2 * UPGrad()(gramian) @ bundle, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("m", [2, 3, 6])
def test_weights_repeat_the_projections_of_the_vectors(m):
    bundle = torch.randn(m, 7, generator=torch.Generator().manual_seed(m), dtype=torch.float64)
    found = Harmonization()(bundle @ bundle.T) @ bundle
    torch.testing.assert_close(found, by_the_paper(bundle).sum(0))


def test_after_two_are_harmonised_they_do_not_conflict_with_the_other_as_it_was():
    bundle = rows([3, 1, 0], [-2, 1, 1])
    first, second = by_the_paper(bundle)
    assert float(first @ bundle[1]) == pytest.approx(0, abs=1e-12)
    assert float(second @ bundle[0]) == pytest.approx(0, abs=1e-12)


def test_three_differ_from_pcgrad_and_may_conflict():
    """What the card does not promise: with three, two that oppose a third overshoot."""
    bundle = rows([1, 0], [-1, 0.1], [-1, -0.1])
    gramian = bundle @ bundle.T
    update = Harmonization()(gramian) @ bundle
    assert not torch.allclose(update, PCGrad(order="cyclic")(gramian) @ bundle)
    found = 0
    for seed in range(100):
        drawn = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        found += bool((drawn @ (Harmonization()(drawn @ drawn.T) @ drawn) < -1e-9).any())
    assert found > 10


def test_a_stack_is_solved_sample_by_sample():
    stack = torch.stack([bundle @ bundle.T for bundle in (rows([2, 0], [-1, 1]), rows([1, 0], [1, 2]))])
    assert Harmonization()(stack).tolist() == [[1.5, 2.0], [1.0, 1.0]]


def test_a_zero_direction_keeps_weight_one():
    assert Harmonization()(torch.diag(torch.tensor([0.0, 4.0]))).tolist() == [1.0, 1.0]
