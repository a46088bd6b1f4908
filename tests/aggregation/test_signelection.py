import pytest
import torch

from equipoise.aggregation import SignElection
from equipoise.core.bundle import Bundle


def test_the_steps_of_the_paper_by_hand():
    """Totals 3, -5, 5: the first keeps 3 and 1, the second -4 and -2, the third 5 alone."""
    rows = torch.tensor([[3.0, 1.0, 0.0], [1.0, -4.0, 0.0], [-1.0, -2.0, 5.0]])
    assert SignElection()(rows).tolist() == [2.0, -3.0, 5.0]


def test_it_is_the_authors_disjoint_mean_where_a_sign_is_elected():
    """sgn of the sum, then the sum of the entries of that sign over their number, entry by entry."""
    rows = torch.randn(5, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows[rows.abs() < 0.5] = 0.0
    found = SignElection()(rows)
    for k in range(200):
        column = rows[:, k].tolist()
        elected = 1 if sum(column) > 0 else -1
        kept = [value for value in column if value * elected > 0]
        assert float(found[k]) == pytest.approx(sum(kept) / len(kept) if kept else 0.0)


def test_directions_on_coordinates_of_their_own_do_not_thin_each_other_out():
    rows = torch.diag(torch.tensor([2.0, -3.0, 4.0]))
    assert SignElection()(rows).tolist() == [2.0, -3.0, 4.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_votes_of_one_sign_are_no_draw(dtype):
    """However many there are, and however coarse their dtype."""
    rows = torch.ones(2048, 3, dtype=dtype)
    assert SignElection()(rows).tolist() == [1.0, 1.0, 1.0]
    rows[0, 1] = -1.0
    rows[1:, 2] = 0.0
    assert SignElection()(rows).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_draw_elects_nobody_whatever_the_order_of_the_sum(dtype):
    rows = torch.tensor([[0.1, 1.0], [0.2, 1.0], [-0.3, 1.0]], dtype=dtype)
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        assert SignElection()(rows[order]).tolist() == [0.0, 1.0]


def test_nan_stays_and_blocks_go_through_a_bundle():
    bundle = Bundle(["a", "b"], {"w": torch.tensor([[[1.0, 2.0]], [[3.0, -1.0]]])})
    assert bundle.map(SignElection())["w"].tolist() == [[2.0, 2.0]]
    assert SignElection()(torch.tensor([[1.0, torch.nan], [1.0, 1.0]])).isnan().tolist() == [False, True]
