import numpy as np
import pytest
import torch
from scipy.stats import mstats

from equipoise.aggregation import CoordinateMedian, WinsorizedMean


def drawn(m: int, k: int, seed: int) -> torch.Tensor:
    return torch.randn(m, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("c", [1, 2, 4, 8])
def test_of_a_hundred_samples_the_c_extremes_at_each_end_are_pulled_in(c):
    """SciPy's winsorize on the levels of the paper and a batch of 100."""
    rows = drawn(100, 40, c)
    share = (c + 0.5) / 100
    wanted = np.asarray(mstats.winsorize(rows.numpy(), limits=(share, share), axis=0)).mean(axis=0)
    assert WinsorizedMean(c=c)(rows).tolist() == pytest.approx(wanted.tolist())


def test_no_winsorizing_is_the_mean_and_all_of_it_the_median():
    rows = drawn(7, 20, 0)
    assert WinsorizedMean(c=0)(rows).tolist() == pytest.approx(rows.mean(0).tolist())
    assert WinsorizedMean(c=49.9)(rows).tolist() == pytest.approx(CoordinateMedian()(rows).tolist())


def test_what_one_sample_alone_asks_for_is_not_done():
    """A coordinate that a single sample touches: its value is pulled in to the zeros of the others."""
    rows = torch.zeros(50, 2)
    rows[3, 0] = 1000.0
    rows[:, 1] = 1.0
    assert WinsorizedMean(c=2)(rows).tolist() == [0.0, 1.0]


def test_one_or_two_directions_are_averaged():
    assert WinsorizedMean()(torch.tensor([[3.0, -1.0]])).tolist() == [3.0, -1.0]
    assert WinsorizedMean()(torch.tensor([[3.0], [5.0]])).tolist() == [4.0]


def test_nan_is_not_pulled_in():
    rows = torch.ones(5, 2)
    rows[0, 1] = torch.nan
    assert WinsorizedMean()(rows).isnan().tolist() == [False, True]


@pytest.mark.parametrize("c", [-1, 50, float("nan")])
def test_a_level_outside_its_range_is_refused(c):
    with pytest.raises(ValueError, match="c is"):
        WinsorizedMean(c=c)
