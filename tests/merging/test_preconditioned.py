"""One solver: numbers, diagonals and matrices agree, and the gradient of what it minimises is zero."""

import pytest
import torch

from equipoise.merging.preconditioned import preconditioned


def drawn(m=3, out=4, width=6, seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randn(m, out, width, generator=draw, dtype=dtype)
    roots = torch.randn(m, width + 2, width, generator=draw, dtype=dtype)
    return rows, roots.mT @ roots


def test_equal_numbers_give_the_average():
    rows, _ = drawn()
    torch.testing.assert_close(preconditioned(rows, torch.ones(3), "scalar"), rows.mean(0))


def test_diagonals_are_matrices():
    rows, grams = drawn()
    diagonals = grams.diagonal(dim1=1, dim2=2)
    found = preconditioned(rows, torch.diag_embed(diagonals), "matrix")
    same = preconditioned(rows, diagonals[:, None].expand_as(rows), "diagonal")
    torch.testing.assert_close(found, same)


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 10.0])
@pytest.mark.parametrize("zero", [False, True])
def test_gradient_is_zero(ridge, zero):
    rows, grams = drawn()
    centre = torch.zeros_like(rows[0]) if zero else rows.mean(0)
    found = preconditioned(rows, grams, "matrix", ridge=ridge, centre=centre)
    strength = ridge * grams.sum(0).diagonal().mean()
    gradient = ((found - rows) @ grams).sum(0) + strength * (found - centre)
    assert gradient.norm() < 1e-12 * (rows @ grams).norm()


def test_formula():
    """sum_i T_i H_i (sum_i H_i)^-1."""
    rows, grams = drawn()
    right = (rows @ grams).sum(0) @ torch.linalg.inv(grams.sum(0))
    torch.testing.assert_close(preconditioned(rows, grams, "matrix"), right)


@pytest.mark.parametrize("ridge", [0.0, 1e-4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_centre_stands_where_no_metric_tells_anything(ridge, dtype):
    """Inputs 4 and 5 are always zero: their weights come out as the average, the rest as without them."""
    rows, grams = drawn(dtype=dtype)
    grams[:, 4:] = grams[:, :, 4:] = 0
    found = preconditioned(rows, grams, "matrix", ridge=ridge)
    torch.testing.assert_close(found[:, 4:], rows[..., 4:].mean(0))
    rest = preconditioned(rows[..., :4], grams[:, :4, :4], "matrix", ridge=ridge * 4 / 6)
    torch.testing.assert_close(found[:, :4], rest)


def test_all_zero_metrics_give_the_centre():
    rows, grams = drawn()
    for found in (
        preconditioned(rows, grams * 0, "matrix"),
        preconditioned(rows, rows * 0, "diagonal"),
        preconditioned(rows, torch.zeros(3), "scalar"),
    ):
        torch.testing.assert_close(found, rows.mean(0))


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_metrics_count_up_to_a_factor(scale):
    rows, grams = drawn(dtype=torch.float32)
    found = preconditioned(rows, grams * scale, "matrix", ridge=1e-3)
    torch.testing.assert_close(found, preconditioned(rows, grams, "matrix", ridge=1e-3))


def test_singular_metrics_of_float32_do_not_blow_up():
    """Three inputs seen by each model of forty: rank nine, and rounding elsewhere."""
    draw = torch.Generator().manual_seed(3)
    rows = torch.randn(3, 5, 40, generator=draw)
    seen = torch.randn(3, 3, 40, generator=draw)
    for ridge in (0.0, 1e-12, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4):
        found = preconditioned(rows, seen.mT @ seen, "matrix", ridge=ridge)
        assert found.norm() < 2 * rows.norm()
