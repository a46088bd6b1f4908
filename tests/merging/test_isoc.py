"""IsoC: the vectors of its formula, a flat spectrum, and hard inputs."""

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

from equipoise.merging import IsoC


@needs_vectors
def test_conformance_vector():
    found, right = moved_by(IsoC(), "Iso-C")
    torch.testing.assert_close(found, right, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(8, 12), (300, 7), (9, 9)])
def test_all_singular_values_are_their_mean(shape, dtype):
    deltas = drawn(shape, dtype=dtype)
    left, values, right = torch.linalg.svd(deltas.double().sum(0), full_matrices=False)
    found = combined(IsoC(scale=1.5), deltas)
    torch.testing.assert_close(found, (1.5 * values.mean() * left @ right).to(dtype))
    spectrum = torch.linalg.svdvals(found)
    torch.testing.assert_close(spectrum, torch.full_like(spectrum, 1.5 * values.mean()))


def test_directions_that_no_model_uses_stay_at_the_base():
    deltas = drawn((8, 12))
    deltas[:, 5:] = 0
    found = combined(IsoC(), deltas)
    assert found[5:].norm() < 1e-12
    mean = torch.linalg.svdvals(deltas.sum(0)).sum() / 8
    torch.testing.assert_close(torch.linalg.svdvals(found)[:5], mean.expand(5))


def test_weights_are_those_of_the_sum():
    deltas = drawn()
    same = combined(IsoC(), torch.stack([deltas[0], 2 * deltas[1], -deltas[2]]))
    torch.testing.assert_close(combined(IsoC(weight=[1, 2, -1]), deltas), same)


def test_hard_inputs_and_the_rest():
    check_hard_inputs(IsoC(kernels=True))
    check_averages_the_rest(IsoC())
