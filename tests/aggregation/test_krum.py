import pytest
import torch
from torch import Tensor

from equipoise.aggregation import Krum, MultiKrum


def gramian(*rows: list[float]) -> Tensor:
    points = torch.tensor(rows, dtype=torch.float64)
    return points @ points.T


def scores(rows: Tensor, byzantine: int) -> Tensor:
    """Blanchard et al. 2017, section 4, from the directions themselves."""
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").square()
    nearest = distances.fill_diagonal_(torch.inf).sort(dim=1).values
    return nearest[:, : len(rows) - byzantine - 2].sum(1)


@pytest.mark.parametrize("byzantine", [0, 1, 2, None])
def test_the_direction_with_the_least_score_of_the_paper_is_taken(byzantine):
    for seed in range(50):
        rows = torch.randn(7, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        wanted = scores(rows, 2 if byzantine is None else byzantine).argmin()
        weights = Krum(byzantine=byzantine)(rows @ rows.T)
        assert weights.tolist() == torch.eye(7)[wanted].tolist()


def test_the_value_of_a_peer():
    """TorchJD's Krum(1, 1) gives the last row, its Krum(1, 2) the mean of the last and the third."""
    rows = torch.tensor(
        [[1.0, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0.8, 0], [9, 9, 9, 9], [1, 0.5, 0.5, 0.3]], dtype=torch.float64
    )
    assert (Krum(byzantine=1)(rows @ rows.T) @ rows).tolist() == [1.0, 0.5, 0.5, 0.3]
    pair = MultiKrum(byzantine=1, selected=2)
    assert scores(rows, 1).topk(2, largest=False).indices.tolist() == [4, 2]
    assert (pair(rows @ rows.T) @ rows).tolist() == pytest.approx([1.0, 0.75, 0.65, 0.15])


def test_a_liar_however_far_is_not_followed():
    """With 2 f + 2 < m the answer is an honest direction, or as near to them as one."""
    honest = torch.randn(6, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for size in (10.0, 1e6):
        lies = size * torch.randn(2, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        rows = torch.cat([honest[:3], lies, honest[3:]])
        assert Krum()(rows @ rows.T)[3:5].tolist() == [0.0, 0.0]
        assert MultiKrum()(rows @ rows.T)[3:5].tolist() == [0.0, 0.0]


def test_two_nearest_with_the_same_score_share_the_weight():
    """With one neighbour each, the nearest two name each other."""
    weights = Krum(byzantine=0)(gramian([0.0, 0.0], [5.0, 0.0], [5.0, 1.0]))
    assert weights.tolist() == [0.0, 0.5, 0.5]


def test_one_is_returned_and_two_are_averaged():
    for rule in (Krum(), MultiKrum()):
        assert rule(gramian([3.0, 4.0])).tolist() == [1.0]
        assert rule(gramian([1.0, 0.0], [-2.0, 5.0])).tolist() == [0.5, 0.5]


def test_copies_share_the_weight():
    rule = Krum(byzantine=1)
    assert rule(gramian([1.0, 2], [1, 2], [1, 2], [9, 0])).tolist() == pytest.approx([1 / 3] * 3 + [0])


def test_nan_is_not_passed_over():
    rows = torch.eye(5, dtype=torch.float64)
    rows[2, 0] = torch.nan
    assert bool(Krum()(rows @ rows.T).isnan().all())
    assert bool(MultiKrum()(rows @ rows.T).isnan().all())


def test_refusals():
    with pytest.raises(ValueError, match="byzantine is -1"):
        Krum(byzantine=-1)
    with pytest.raises(ValueError, match="byzantine=2 needs 5 directions or more, got 4"):
        Krum(byzantine=2)(torch.eye(4))


@pytest.mark.parametrize("selected", [3, 7])
def test_weights_are_shares_in_float64(selected):
    """Thirds and sevenths to the last digit of float64, not of float32."""
    rows = torch.tensor([[1.0, 2.0]] * selected + [[50.0 * i, 90.0] for i in range(1, selected)])
    rows = rows.double()
    for rule in (Krum(byzantine=1), MultiKrum(byzantine=1, selected=selected)):
        weights = rule(rows @ rows.T)
        assert weights.dtype == torch.float64
        assert weights[:selected].tolist() == pytest.approx([1 / selected] * selected, rel=1e-15)
    one = Krum(byzantine=0)(gramian([0.0], [0.0], [0.0], [7.0]))
    assert one.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0.0], rel=1e-15)
