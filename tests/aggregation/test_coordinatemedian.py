import numpy as np
import torch

from equipoise.aggregation import CoordinateMedian, TrimmedMean


def drawn(m: int, k: int, seed: int) -> torch.Tensor:
    return torch.randn(m, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_the_median_of_numpy_for_odd_and_even_numbers():
    for m in range(1, 8):
        rows = drawn(m, 50, m)
        assert np.array_equal(CoordinateMedian()(rows).numpy(), np.median(rows.numpy(), axis=0))


def test_it_lies_among_the_honest_values_whatever_a_minority_says():
    """Yin et al. 2018: with fewer than half wrong, coordinates stay in the range of the right ones."""
    honest = drawn(4, 30, 0)
    for lie in (1e30, -1e30):
        found = CoordinateMedian()(torch.cat([torch.full((3, 30), lie, dtype=torch.float64), honest]))
        assert bool((found >= honest.amin(0)).all())
        assert bool((found <= honest.amax(0)).all())


def test_it_is_the_trimmed_mean_that_trims_all_it_can():
    for m in range(1, 8):
        rows = drawn(m, 20, m)
        assert torch.equal(CoordinateMedian()(rows), TrimmedMean(beta=0.499)(rows))


def test_a_coordinate_that_few_touch_stays_still():
    rows = torch.zeros(5, 3)
    rows[:2, 0] = 7.0
    assert CoordinateMedian()(rows).tolist() == [0.0, 0.0, 0.0]


def test_nan_is_not_lost_in_the_sorting():
    for place in range(3):
        rows = torch.ones(3, 2)
        rows[place, 1] = torch.nan
        found = CoordinateMedian()(rows)
        assert found[0] == 1.0
        assert found[1].isnan()
