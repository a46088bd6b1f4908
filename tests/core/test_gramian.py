import math

import pytest
import torch

from equipoise.core.gramian import EXACT, block_gramian, conflict, cosines


def rows(m: int, k: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(m, k, generator=torch.Generator().manual_seed(m * k), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("k", [1, 7, EXACT, EXACT + 1, 3 * EXACT + 5])
def test_equals_the_float64_product(dtype, k):
    block = rows(3, k, dtype)
    exact = block.double() @ block.double().T
    tolerance = 1e-12 if block.numel() <= EXACT or dtype == torch.float64 else 2e-6
    error = (block_gramian(block) - exact).abs().max() / exact.diagonal().max()
    assert float(error) < tolerance


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e-12, 1.0, 1e12, 1e18])
def test_long_float32_blocks_keep_their_digits_at_every_scale(scale):
    block = rows(2, EXACT + 100) * scale
    exact = block.double() @ block.double().T
    torch.testing.assert_close(block_gramian(block), exact, rtol=5e-5, atol=1e-6 * float(exact.max()))


def test_shape_of_the_block_does_not_matter():
    block = rows(4, 60)
    assert torch.equal(block_gramian(block), block_gramian(block.reshape(4, 3, 4, 5)))


def test_cross_gramian_of_two_blocks():
    left, right = rows(3, 50), rows(2, 50)
    torch.testing.assert_close(block_gramian(left, right), left.double() @ right.double().T)


def test_autocast_does_not_reach_the_product():
    block = rows(2, EXACT + 1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = block_gramian(block)
    assert torch.equal(inside, block_gramian(block))


def test_not_finite_shows_on_the_diagonal_of_its_row_only():
    block = rows(3, EXACT + 1)
    block[1, 5] = math.nan
    assert block_gramian(block).diagonal().isfinite().tolist() == [True, False, True]


def test_conflict_of_the_hand_example():
    """g1 = (2, 0), g2 = (-1, 1): cosine -1/sqrt(2), lengths 2 and sqrt(2)."""
    seen = conflict(torch.tensor([[4.0, -2.0], [-2.0, 2.0]], dtype=torch.float64))
    assert seen.share == 1.0
    assert seen.norm_ratio == pytest.approx(math.sqrt(2))
    assert float(seen.cosines[0, 1]) == pytest.approx(-1 / math.sqrt(2))


def test_zero_direction_has_no_angle():
    gramian = torch.diag(torch.tensor([4.0, 0.0], dtype=torch.float64))
    assert cosines(gramian).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert conflict(gramian).norm_ratio == math.inf
