import numpy as np
import pytest
import torch

from equipoise.aggregation import CoordinateMedian, MedianOfMeans


def drawn(m: int, k: int, seed: int) -> torch.Tensor:
    return torch.randn(m, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_three_groups_give_the_median_of_three_means():
    rows = drawn(12, 30, 0)
    means = np.stack([rows[i : i + 4].numpy().mean(axis=0) for i in (0, 4, 8)])
    assert MedianOfMeans()(rows).tolist() == pytest.approx(np.median(means, axis=0).tolist())


def test_what_one_group_alone_asks_for_is_not_done():
    """Chatterjee & Zielinski 2022: for a step along a coordinate two of the three groups must want it."""
    rows = torch.zeros(9, 2)
    rows[0, 0] = 1000.0
    rows[[1, 7], 1] = 3.0
    assert MedianOfMeans()(rows).tolist() == [0.0, 1.0]


def test_one_group_is_the_mean_and_a_group_each_the_median():
    rows = drawn(7, 20, 1)
    assert MedianOfMeans(groups=1)(rows).tolist() == pytest.approx(rows.mean(0).tolist())
    assert torch.equal(MedianOfMeans(groups=7)(rows), CoordinateMedian()(rows))
    assert torch.equal(MedianOfMeans(groups=99)(rows), CoordinateMedian()(rows))


def test_groups_differ_by_at_most_one_row():
    """Seven rows: three, two and two."""
    rows = torch.tensor([[0.0], [3.0], [6.0], [10.0], [20.0], [-5.0], [-7.0]])
    assert MedianOfMeans()(rows).tolist() == [3.0]


def test_fewer_than_one_group_is_refused():
    with pytest.raises(ValueError, match="groups is 0"):
        MedianOfMeans(groups=0)
