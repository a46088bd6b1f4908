"""TSVM: the vectors of its formula, the plain decompositions of the authors' code, and hard inputs."""

import pytest
import torch
from tests.merging.matrices import (
    check_averages_the_rest,
    check_hard_inputs,
    combined,
    drawn,
    moved_by,
    needs_vectors,
)

from equipoise.merging import TSVM

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


@needs_vectors
def test_conformance_vector():
    found, right = moved_by(TSVM(), "TSV-M")
    torch.testing.assert_close(found, right, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(8, 12), (12, 8), (9, 9)])
def test_it_is_the_code_of_the_authors(shape, dtype):
    """Zeros elsewhere, the first floor(min / m) triples of each model side by side, then U V^T of both."""
    deltas = drawn(shape, dtype=dtype)
    keep = min(shape) // 3
    parts = [torch.linalg.svd(delta.double(), full_matrices=False) for delta in deltas]
    left = torch.cat([u[:, :keep] for u, _, _ in parts], 1)
    right = torch.cat([v[:keep] for _, _, v in parts])
    values = torch.cat([s[:keep] for _, s, _ in parts])
    a, _, b = torch.linalg.svd(left, full_matrices=False)
    c, _, d = torch.linalg.svd(right, full_matrices=False)
    expected = (a @ b * values @ c @ d).to(dtype)
    torch.testing.assert_close(combined(TSVM(), deltas), expected, atol=TOLERANCE[dtype], rtol=0)


def test_directions_that_are_orthogonal_already_are_added_up():
    """No interference: task vectors on rows and columns of their own come out as they are."""
    deltas = torch.zeros(3, 6, 9)
    for i in range(3):
        deltas[i, 2 * i : 2 * i + 2, 3 * i : 3 * i + 3] = drawn((2, 3), 1, torch.float32, i)[0]
    torch.testing.assert_close(combined(TSVM(), deltas), deltas.sum(0))


def test_one_model_is_moved_by_the_scale():
    deltas = drawn(m=1)
    torch.testing.assert_close(combined(TSVM(scale=0.5), deltas), 0.5 * deltas[0])


def test_a_model_given_twice_counts_once():
    """A full decomposition would fill the lost direction with a vector made up at full strength."""
    deltas = drawn((8, 12), 1)
    left, values, right = torch.linalg.svd(deltas[0], full_matrices=False)
    half = left[:, :4] * values[:4] @ right[:4]
    torch.testing.assert_close(combined(TSVM(), deltas.expand(2, -1, -1)), half)


def test_more_models_than_directions_are_averaged():
    deltas = drawn((2, 9), 3)
    torch.testing.assert_close(combined(TSVM(), deltas), deltas.mean(0))


def test_weights_scale_task_vectors_and_kernels_are_matrices_on_demand():
    deltas = drawn((6, 2, 2, 2))
    weights = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64).view(-1, 1, 1)
    found = combined(TSVM(weight=[1, -0.5, 2], kernels=True), deltas).view(6, 8)
    torch.testing.assert_close(found, combined(TSVM(), weights * deltas.view(3, 6, 8)))


def test_hard_inputs_and_the_rest():
    check_hard_inputs(TSVM(kernels=True))
    check_averages_the_rest(TSVM())
