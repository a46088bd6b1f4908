import numpy as np
import pytest
import torch
from scipy import stats

from equipoise.aggregation import TrimmedMean


def drawn(m: int, k: int, seed: int) -> torch.Tensor:
    return torch.randn(m, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_value_of_a_peer():
    """TorchJD's TrimmedMean(1) on these rows."""
    rows = torch.tensor([[1.0, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 0], [9, 9, 9, 9], [1, 0.5, 0.5, 0.3]])
    assert TrimmedMean(beta=0.2)(rows).tolist() == pytest.approx([1.0, 2.5 / 3, 2.5 / 3, 0.1])


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_it_is_the_trimmed_mean_of_scipy(count):
    for m in (8, 9, 20):
        rows, beta = drawn(m, 30, m), count / m
        wanted = stats.trim_mean(rows.numpy(), (count + 0.5) / m, axis=0)
        assert TrimmedMean(beta=beta)(rows).tolist() == pytest.approx(wanted.tolist())


def test_no_trimming_is_the_mean():
    rows = drawn(6, 20, 0)
    assert TrimmedMean(beta=0.0)(rows).tolist() == pytest.approx(rows.mean(0).tolist())


@pytest.mark.parametrize(("m", "left"), [(1, 1), (2, 2), (3, 1), (4, 2), (10, 8), (11, 7)])
def test_a_share_is_rounded_up_and_something_remains(m, left):
    """A tenth: one at each end up to ten directions, two of eleven."""
    rows = torch.arange(m, dtype=torch.float64)[:, None] ** 3
    cut = (m - left) // 2
    assert TrimmedMean()(rows).tolist() == pytest.approx([float(rows[cut : m - cut].mean())])


def test_a_share_of_liars_no_larger_than_beta_cannot_leave_the_range_of_the_others():
    honest = drawn(8, 30, 1)
    lies = torch.tensor([1e12, -1e12], dtype=torch.float64)[:, None].expand(2, 30)
    found = TrimmedMean(beta=0.2)(torch.cat([lies, honest])).numpy()
    assert np.all(found >= honest.amin(0).numpy())
    assert np.all(found <= honest.amax(0).numpy())


def test_nan_is_not_trimmed_away():
    rows = torch.ones(5, 2)
    rows[4, 1] = torch.nan
    found = TrimmedMean()(rows)
    assert found[0] == 1.0
    assert found[1].isnan()


@pytest.mark.parametrize("beta", [-0.1, 0.5, float("nan")])
def test_a_beta_outside_its_range_is_refused(beta):
    with pytest.raises(ValueError, match="beta is"):
        TrimmedMean(beta=beta)
