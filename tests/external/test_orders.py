"""PCGrad and GradVac of three and more objectives, in the same order in both libraries.

TorchJD draws an order for each objective from `torch.randperm`; here it is handed ours.
"""

from collections.abc import Iterator

import pytest
import torch
import torchjd.aggregation as peers
from tests.external.draws import jacobians
from torch import Tensor

from equipoise import aggregation
from equipoise.core.step import Step
from equipoise.testing.ask import names_for

COUNT = 1000
EXACT = 1e-9  # of the largest weight; both compute in float64 and divide by squared norms


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / one.abs().max())


def hand_over(monkeypatch: pytest.MonkeyPatch, orders: Iterator[Tensor]) -> None:
    monkeypatch.setattr(torch, "randperm", lambda count: next(orders))


def test_pcgrad(monkeypatch):
    """Any rank, any scale; TorchJD draws among all m, itself among them."""
    worst = 0.0
    for number, rows in enumerate(jacobians(COUNT)):
        gramian = rows @ rows.T
        rule = aggregation.PCGrad(generator=torch.Generator().manual_seed(number))
        others = torch.from_numpy(rule._others(len(rows)))  # (m - 1, m)
        whole = torch.cat([others, torch.arange(len(rows))[None]])
        mine = rule(gramian)
        with monkeypatch.context() as patched:
            hand_over(patched, iter(whole.unbind(1)))
            worst = max(worst, apart(mine, peers.PCGradWeighting()(gramian)))
    assert worst <= EXACT


def test_gradvac_over_steps(monkeypatch):
    """250 runs of four steps, so that the averages are at work; full rank, for else cosines are rounding.

    TorchJD draws among the m - 1 others, by their place; its 1e-8 beside norms is switched off.
    """
    worst, moved = 0.0, 0.0
    for number, start in enumerate(jacobians(COUNT // 4, full_rank=True)):
        m = len(start)
        rule = aggregation.GradVac(beta=0.5, generator=torch.Generator().manual_seed(number))
        other = peers.GradVacWeighting(beta=0.5, eps=0.0)
        noise = torch.Generator().manual_seed(number)
        for _ in range(4):
            rows = start * (1 + 0.3 * torch.randn(start.shape, generator=noise, dtype=start.dtype))
            gramian = rows @ rows.T
            others = torch.from_numpy(rule._others(m)).T
            places = others - (others > torch.arange(m)[:, None]).long()
            mine = rule(gramian, names=names_for(m))
            with monkeypatch.context() as patched:
                hand_over(patched, iter(places.unbind(0)))
                worst = max(worst, apart(mine, other(gramian)))
            moved = max(moved, apart(mine, aggregation.GradVac()(gramian)))
            rule.update(Step(names_for(m), torch.ones(m, dtype=torch.float64), mine, gramian))
    assert worst <= EXACT
    assert moved > 0.1, "the averages never mattered, so the comparison was one with PCGrad"
