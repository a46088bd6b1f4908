"""PBI, COSMOS and fixed weights against TorchJD's: value and weights on many sets of losses.

In float64. COSMOS differs by rounding alone: 1e-12 of the value and of the largest weight. TorchJD adds 1e-12
to the square of PBI's distance from the ray, and the two are compared to within what that makes of it.
"""

import pytest
import torch
import torchjd.scalarization as peers
from torch import Tensor

from equipoise.scalarization import COSMOS, PBI, WeightedSum
from equipoise.testing.ask import weigh

COUNT = 300


def draws() -> list[tuple[Tensor, Tensor, Tensor]]:
    """Losses and a reference below them (m,), and a preference, with m from 2 to 8."""
    found = []
    for number in range(COUNT):
        drawn = torch.Generator().manual_seed(number)
        normal = torch.randn(3, 2 + number % 7, generator=drawn, dtype=torch.float64)
        losses = normal[0].clamp(-3, 3).exp()
        found.append((losses, losses * normal[1].sigmoid(), normal[2].softmax(0)))
    return found


def same(mine, theirs, losses: Tensor, allowed: float, preference: Tensor | None = None) -> None:
    names = [str(i) for i in range(len(losses))]
    leaf = losses.clone().requires_grad_()
    other = theirs(leaf)
    (weights,) = torch.autograd.grad(other, leaf)
    value = mine.apply_to(losses, preference=preference, names=names).detach()
    size = float(losses.max())
    torch.testing.assert_close(value, other.detach(), rtol=allowed, atol=allowed * size)
    found = weigh(mine, losses, preference=preference, names=names)
    torch.testing.assert_close(found, weights, rtol=0, atol=allowed * float(weights.abs().max()))


def test_cosmos():
    for losses, _, preference in draws():
        same(COSMOS(lambda_=3.0), peers.COSMOS(3.0, preference), losses, 1e-12, preference)


@pytest.mark.parametrize("theta", [0.0, 0.5, 5.0])
def test_pbi(theta):
    for losses, reference, preference in draws():
        gaps, ray = losses - reference, preference / preference.norm()
        apart = float((gaps - (gaps @ ray) * ray).norm())
        rule = PBI(theta=theta, reference={str(i): float(value) for i, value in enumerate(reference)})
        allowed = 1e-11 + 10 * theta * 1e-12 / apart**2
        same(rule, peers.PBI(theta, preference, reference), losses, allowed, preference)


def test_weighted_sum_is_constant():
    for losses, reference, _ in draws():
        rule = WeightedSum(start={str(i): float(value) for i, value in enumerate(reference)})
        same(rule, peers.Constant(reference), losses, 1e-12)
