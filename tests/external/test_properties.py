"""The properties that TorchJD documents of aggregators, of our rules at every scale from 1e-12 to 1e12."""

import pytest
import torch
from tests.external.draws import jacobians
from torch import Tensor

from equipoise import aggregation
from equipoise.core.card import cards

SCALES = (1e-12, 1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e9, 1e12)
GRAMIAN = [name for name, card in cards("aggregation").items() if card.shape == "gramian"]


def promising(guarantee: str) -> list[str]:
    return [name for name in GRAMIAN if cards("aggregation")[name].promises(guarantee)]


def update(name: str, rows: Tensor) -> Tensor:
    return getattr(aggregation, name)()(rows @ rows.T) @ rows


def some(count: int = 60, *, full_rank: bool = False) -> list[Tensor]:
    return list(jacobians(count, full_rank=full_rank, scales=(1.0,)))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", GRAMIAN)
def test_structure(name, scale):
    """A finite vector of the length of a row; zero for a matrix of zeros."""
    for rows in some():
        found = update(name, rows * scale)
        assert found.shape == rows.shape[1:]
        assert bool(found.isfinite().all())
    assert float(update(name, torch.zeros(3, 5, dtype=torch.float64)).abs().max()) == 0


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", [*promising("NON_CONFLICTING"), *promising("NON_CONFLICTING_FULL_RANK")])
def test_non_conflicting(name, scale):
    """No row has a negative product with the update."""
    full = name in promising("NON_CONFLICTING_FULL_RANK")
    for rows in some(full_rank=full):
        rows = rows * scale
        found = update(name, rows)
        size = float(found.norm()) + 1e-7 * float(rows.norm())  # an update of zero is zero but for rounding
        assert float((rows @ found / rows.norm(dim=1)).min()) > -1e-6 * size


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", promising("PERMUTATION"))
def test_permutation_invariant(name, scale):
    """Rows in another order give the same update."""
    for number, rows in enumerate(some(full_rank=True)):
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(number))
        one, other = update(name, rows * scale), update(name, rows[order] * scale)
        assert float((one - other).norm()) <= 1e-6 * max(float(one.norm()), float((rows * scale).norm()))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", promising("LINEAR_IN_ROW_SCALE"))
def test_linear_under_scaling(name, scale):
    """A(diag(c) J) is linear in positive c."""
    for number, rows in enumerate(some(full_rank=True)):
        drawn = torch.Generator().manual_seed(number)
        c, d = (torch.rand(len(rows), 1, generator=drawn, dtype=torch.float64) + 0.1 for _ in range(2))
        both = update(name, (2 * c + 3 * d) * rows * scale)
        apart = 2 * update(name, c * rows * scale) + 3 * update(name, d * rows * scale)
        assert float((both - apart).norm()) <= 1e-6 * float((rows * scale).norm())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", promising("STRONGLY_STATIONARY"))
def test_strongly_stationary(name, scale):
    """Not zero where no positive combination of all rows is."""
    for rows in some(full_rank=True):
        assert float(update(name, rows * scale).norm()) > 1e-6 * float((rows * scale).norm())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    "name", [name for name in GRAMIAN if cards("aggregation")[name].degree() is not None]
)
def test_homogeneous(name, scale):
    """The matrix times c gives the update times c to the stated degree."""
    degree = cards("aggregation")[name].degree()
    assert degree is not None
    for rows in some(full_rank=True):
        one, other = update(name, rows) * scale**degree, update(name, rows * scale)
        assert float((one - other).norm()) <= 1e-6 * float(one.norm())
