import pytest
import torch

from equipoise.aggregation import MGDA, SDMGrad

HAND = torch.tensor([[4.0, -2.0], [-2.0, 2.0]], dtype=torch.float64)


def random_gramian(m: int, seed: int) -> torch.Tensor:
    rows = torch.randn(m, m + 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return rows @ rows.T


def test_hand_example():
    """g = (2, 0), (-1, 1), lambda .3: the inner minimum lies at w = (.37, .63), the weights at (.4, .6)."""
    torch.testing.assert_close(SDMGrad()(HAND), torch.tensor([0.4, 0.6], dtype=torch.float64))


@pytest.mark.parametrize("m", [2, 5, 12])
def test_between_mgda_and_the_mean(m):
    """Xiao et al. 2023, section 4: lambda = 0 is MGDA; as it grows the update becomes the preferred one."""
    gramian = random_gramian(m, seed=m)
    torch.testing.assert_close(SDMGrad(lambda_=0.0)(gramian), MGDA()(gramian))
    mean = torch.full((m,), 1 / m, dtype=torch.float64)
    torch.testing.assert_close(SDMGrad(lambda_=1e9)(gramian), mean, rtol=1e-6, atol=1e-8)
    chosen = torch.linspace(1, 2, m, dtype=torch.float64)
    chosen = chosen / chosen.sum()
    torch.testing.assert_close(SDMGrad(lambda_=1e9)(gramian, preference=chosen), chosen, rtol=1e-6, atol=1e-8)


def test_no_point_of_the_simplex_is_better():
    gramian, lambda_ = random_gramian(6, seed=1), 0.3
    uniform = torch.full((6,), 1 / 6, dtype=torch.float64)

    def height(w: torch.Tensor) -> float:
        moved = w + lambda_ * uniform
        return float(moved @ gramian @ moved)

    best = height(SDMGrad()(gramian) * (1 + lambda_) - lambda_ * uniform)
    drawn = torch.Generator().manual_seed(0)
    for _ in range(500):
        w = torch.rand(6, generator=drawn, dtype=torch.float64)
        assert height(w / w.sum()) >= best - 1e-12


def test_a_negative_lambda_is_refused():
    with pytest.raises(ValueError, match="lambda_ must be 0 or more"):
        SDMGrad(lambda_=-1.0)
