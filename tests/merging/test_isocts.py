"""IsoCTS: the plain decompositions of the published code, its ends, and hard inputs."""

import pytest
import torch
from tests.merging.matrices import check_averages_the_rest, check_hard_inputs, combined, drawn

from equipoise.merging import IsoC, IsoCTS


def published(deltas, common):
    """`iso_cts` of fusion_bench in full decompositions: common space of the sum, then each model's own."""
    rank, m = min(deltas.shape[1:]), len(deltas)
    own = round((rank - int(rank * common)) / m)
    shared = rank - own * m
    left, values, right = torch.linalg.svd(deltas.sum(0), full_matrices=False)
    lefts, total, rights = [left[:, :shared]], values[:shared].sum(), [right[:shared]]
    for delta in deltas:
        rest = delta - lefts[0] @ lefts[0].T @ delta
        u, s, v = torch.linalg.svd(rest, full_matrices=False)
        lefts.append(u[:, :own])
        rights.append(v[:own])
        total = total + s[:own].sum()
    a, _, b = torch.linalg.svd(torch.cat(lefts, 1), full_matrices=False)
    c, _, d = torch.linalg.svd(torch.cat(rights), full_matrices=False)
    return a @ b * (total / rank) @ c @ d


@pytest.mark.parametrize("shape", [(10, 15), (15, 10), (12, 12)])
@pytest.mark.parametrize("common", [0.0, 0.3, 0.8, 1.0])
def test_it_is_the_published_code(shape, common):
    deltas = drawn(shape)
    torch.testing.assert_close(combined(IsoCTS(common=common), deltas), published(deltas, common))
    found = combined(IsoCTS(common=common), deltas.float())
    torch.testing.assert_close(found, published(deltas, common).float(), atol=1e-4, rtol=0)


def test_with_common_directions_alone_it_is_isoc():
    deltas = drawn()
    torch.testing.assert_close(combined(IsoCTS(common=1), deltas), combined(IsoC(), deltas))


def test_one_model_has_nothing_but_its_own_directions():
    deltas = drawn(m=1)
    torch.testing.assert_close(combined(IsoCTS(common=0.5), deltas), combined(IsoC(), deltas))


def test_worked_value():
    """Common are the axes 1 and 2 of diag(6, 6, 1, 0); axis 3, which the models turn against each other at
    strengths 2 and 1, cancels but counts in the mean (6 + 6 + 2 + 1) / 4."""
    deltas = torch.diag_embed(torch.tensor([[3.0, 3.0, 2.0, 0.0], [3.0, 3.0, -1.0, 0.0]]))
    right = torch.diag(torch.tensor([3.75, 3.75, 0.0, 0.0]))
    torch.testing.assert_close(combined(IsoCTS(common=0.5), deltas), right)


def test_directions_are_shared_out_where_they_do_not_divide():
    """Eleven directions among three models: three each, as the four that rounding gives are too many."""
    deltas = drawn((11, 11))
    spectrum = torch.linalg.svdvals(combined(IsoCTS(common=0), deltas))
    torch.testing.assert_close(spectrum, spectrum[0].expand(11))


def test_common_is_a_share():
    with pytest.raises(ValueError, match=r"common is 1\.5"):
        IsoCTS(common=1.5)


def test_hard_inputs_and_the_rest():
    check_hard_inputs(IsoCTS(kernels=True))
    check_averages_the_rest(IsoCTS())
