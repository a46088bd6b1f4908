import pytest
import torch

from equipoise.core.ordered import cut, middle, ordered


def test_columns_are_sorted_apart_and_nan_spreads_over_its_own_only():
    rows = torch.tensor([[3.0, torch.nan, 1.0], [1.0, 2.0, torch.inf], [2.0, 0.0, -torch.inf]])
    found = ordered(rows)
    assert found[:, 0].tolist() == [1.0, 2.0, 3.0]
    assert found[:, 1].isnan().all()
    assert found[:, 2].tolist() == [-torch.inf, 1.0, torch.inf]


def test_the_middle_of_an_even_number_is_the_mean_of_two():
    assert middle(torch.tensor([[1.0], [2.0], [4.0], [9.0]])).tolist() == [3.0]


@pytest.mark.parametrize(
    ("m", "share", "count"),
    [(10, 0.1, 1), (30, 0.1, 3), (31, 0.1, 4), (5, 0.0, 0), (1, 0.4, 0), (2, 0.4, 0), (100, 0.29, 29)],
)
def test_a_share_is_rounded_up_but_not_by_rounding(m, share, count):
    """0.1 * 30 is 3.0000000000000004 in binary."""
    assert cut(m, share) == count
