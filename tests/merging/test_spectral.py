"""Singular triples and polar factors from the shorter side are those of the full decomposition."""

import pytest
import torch

from equipoise.merging.spectral import polar, triples

SHAPES = [(30, 20), (20, 30), (25, 25), (1, 8), (8, 1)]


def spread(shape, digits, dtype=torch.float32):
    """A matrix whose singular values fall from 1 by so many digits."""
    draw = torch.Generator().manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape, generator=draw, dtype=torch.float64), full_matrices=False)
    values = torch.logspace(0, -digits, min(shape), dtype=torch.float64)
    return (u * values @ v).to(dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_triples_are_those_of_the_decomposition(shape, dtype):
    matrix = spread(shape, 3, dtype)
    found = triples(matrix)
    values = torch.linalg.svdvals(matrix.double())
    torch.testing.assert_close(found.values, values, atol=1e-12, rtol=1e-6)
    torch.testing.assert_close(found.left * found.values @ found.right, matrix.double())
    one = torch.eye(len(values), dtype=torch.float64)
    torch.testing.assert_close(found.left.T @ found.left, one, atol=1e-9, rtol=0)
    torch.testing.assert_close(found.right @ found.right.T, one, atol=1e-9, rtol=0)


def test_the_largest_come_first_and_no_more_than_asked():
    matrix = spread((30, 20), 2)
    found, rest = triples(matrix, 5), triples(matrix)
    assert found.left.shape == (30, 5)
    assert found.right.shape == (5, 20)
    assert torch.equal(found.values, rest.values[:5])
    assert (found.values.diff() < 0).all()
    assert triples(matrix, 0).values.shape == (0,)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_polar_factor(shape, dtype):
    matrix = spread(shape, 4, dtype)
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    factor, found = polar(matrix, dtype)
    torch.testing.assert_close(factor, left @ right, atol=1e-7, rtol=0)
    torch.testing.assert_close(found, values, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_what_is_lost_in_rounding_is_left_out(dtype, scale):
    """A matrix of rank 3: three triples, and a polar factor that is an isometry of three directions."""
    draw = torch.Generator().manual_seed(1)
    thin = torch.randn(40, 3, generator=draw, dtype=dtype), torch.randn(3, 25, generator=draw, dtype=dtype)
    matrix = scale * (thin[0] @ thin[1])
    assert len(triples(matrix).values) == 3
    factor, _ = polar(matrix, dtype)
    values = torch.linalg.svdvals(factor)
    torch.testing.assert_close(values[:3], torch.ones(3, dtype=torch.float64))
    assert values[3] < 1e-6
    assert len(triples(matrix * 0).values) == 0
    assert not polar(matrix * 0, dtype)[0].any()
