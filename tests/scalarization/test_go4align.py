from itertools import product

import numpy as np
import pytest
import torch

from equipoise.core.step import Step
from equipoise.scalarization import GO4Align
from equipoise.scalarization.go4align import group_means
from equipoise.testing.ask import weigh


def best_means(values: np.ndarray, groups: int) -> np.ndarray:
    """The means of the groups of least squared distance, of all divisions there are."""

    def means(labels: tuple[int, ...]) -> np.ndarray:
        return np.array([values[np.equal(labels, label)].mean() for label in labels])

    return min(
        map(means, product(range(groups), repeat=len(values))), key=lambda m: ((values - m) ** 2).sum()
    )


def test_three_steps_are_those_of_the_authors_code():
    """Class GO4ALIGN: adv_probs *= exp(-eta f), normalised, before the weights of the same step."""
    batches = np.array([[1.0, 1.25, 10.0, 9.0], [0.5, 1.5, 9.0, 9.5], [0.4, 1.2, 4.0, 9.0]])
    rule, names = GO4Align(groups=2, step_size=0.1), ("a", "b", "c", "d")
    probabilities = np.full(4, 0.25)
    for losses in batches:
        probabilities = probabilities * np.exp(-0.1 * losses)
        probabilities /= probabilities.sum()
        weight = losses.sum() / losses * probabilities
        expected = best_means(weight, 2)
        found = weigh(rule, torch.from_numpy(losses), names=names)
        assert found.tolist() == pytest.approx(expected)
        rule.update(Step(names, torch.from_numpy(losses), None))


def test_one_group_is_the_mean_of_the_indicators():
    losses = torch.tensor([1.0, 4.0], dtype=torch.float64)
    mean = (0.5 * 5 / 1 + 0.5 * 5 / 4) / 2
    assert weigh(GO4Align(groups=1, step_size=0.0), losses).tolist() == pytest.approx([mean, mean])


def test_with_as_many_groups_as_objectives_the_scaled_losses_are_equal():
    losses = torch.tensor([1.0, 4.0, 0.2], dtype=torch.float64)
    scaled = weigh(GO4Align(groups=3, step_size=0.0), losses) * losses
    assert scaled.tolist() == pytest.approx([5.2 / 3] * 3)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_the_grouping_is_the_best_of_all_divisions(groups):
    """k-means, as the authors run it, ends at a division that is no better."""
    generator = np.random.default_rng(0)
    for m in (1, 2, 4, 7):
        for scale in (1e-12, 1.0, 1e12):
            values = scale * np.exp(2 * generator.normal(size=m))
            np.testing.assert_allclose(group_means(values, groups), best_means(values, groups))


def test_the_risk_of_past_steps_lowers_the_indicator():
    rule, losses = GO4Align(groups=2, step_size=0.5), torch.ones(2, dtype=torch.float64)
    rule.update(Step(("a", "b"), torch.tensor([3.0, 1.0], dtype=torch.float64), None))
    found = weigh(rule, losses, names=("a", "b"))
    assert found[0] / found[1] == pytest.approx(float(np.exp(-1.0)))
    assert weigh(rule, torch.ones(1), names=("b",)).item() == pytest.approx(1)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="'depth' = 0"):
        GO4Align()(torch.tensor([1.0, 0.0]), names=("mask", "depth"))
    with pytest.raises(ValueError, match="groups is 0"):
        GO4Align(groups=0)
    with pytest.raises(ValueError, match="step_size is -1"):
        GO4Align(step_size=-1)
