"""Rules that keep state against TorchJD's, over several steps on random Gramians and Jacobians.

TorchJD's move at each call; ours in `update`, which follows each call here.
"""

from itertools import pairwise

import pytest
import torch
import torchjd.aggregation as peers
from tests.external.draws import apart, jacobians
from torch import Tensor

from equipoise import aggregation
from equipoise.core.rule import GramianRule
from equipoise.core.step import Step
from equipoise.core.twobatches import true_gramian
from equipoise.testing.ask import advance, ask

COUNT = 200
STEPS = 4


def runs(count: int = COUNT, scales: tuple[float, ...] = (1e-3, 1.0, 1e3)) -> list[list[Tensor]]:
    """For each of `count` matrices a few steps of noise around it."""
    found = []
    for number, rows in enumerate(jacobians(count, scales=scales)):
        drawn = torch.Generator().manual_seed(number)
        size = rows.norm() / rows.numel() ** 0.5
        noise = torch.randn(STEPS, *rows.shape, generator=drawn, dtype=torch.float64)
        found.append(list(rows + 0.5 * size * noise))
    return found


def follow(rule: GramianRule, gramian: Tensor) -> Tensor:  # (m, m) -> (m,)
    """The weights at this step, and the step done."""
    names = tuple(str(i) for i in range(len(gramian)))
    weights = rule.apply_to(gramian, names=names)
    rule.update(Step(names, torch.ones(len(names), dtype=torch.float64), weights, gramian))
    return weights


@pytest.mark.parametrize(("gamma", "rho"), [(0.1, 0.1), (0.01, 0.0), (2.0, 1.0)])
def test_modo_moves_as_torchjds(gamma, rho):
    """On products J1 J2' of two draws, which are not symmetric."""
    for steps in runs():
        mine, theirs = aggregation.MoDo(gamma=gamma, rho=rho, relative=False), peers.MoDoWeighting(gamma, rho)
        for one, other in pairwise(steps):
            cross = one @ other.T
            torch.testing.assert_close(follow(mine, cross), theirs(cross), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize(
    ("inner", "theirs", "allowed"),
    [
        (aggregation.AlignedMTL, peers.AlignedMTLWeighting, 1e-6),
        (aggregation.Mean, peers.MeanWeighting, 1e-9),
        (lambda: aggregation.CAGrad(c=0.5, rescale=0), lambda: peers.CAGradWeighting(c=0.5), 5e-3),
    ],
    ids=["AlignedMTL", "Mean", "CAGrad"],
)
def test_crmogm_averages_as_torchjds(inner, theirs, allowed, alpha):
    """CAGrad as far as its own solver goes, see test_rules."""
    for steps in runs(40, scales=(1.0,)):
        mine, other = aggregation.CRMOGM(inner(), alpha=alpha), peers.CRMOGMWeighting(theirs(), alpha)
        for rows in steps:
            gramian = rows @ rows.T / rows.norm().square()
            torch.testing.assert_close(follow(mine, gramian), other(gramian).double(), rtol=0, atol=allowed)


@pytest.mark.parametrize(("eta", "warmup"), [(0.01, 1), (1.0, 1), (1.0, 3)])
def test_excessmtl_weighs_as_torchjds(eta, warmup):
    """TorchJD adds 1e-7 to squares and to its scale, so the matrices are large."""
    moved = 0.0
    for steps in runs(scales=(1e3,)):
        mine = aggregation.ExcessMTL(eta=eta, warmup=warmup)
        theirs = peers.ExcessMTL(robust_step_size=eta, n_warmup_steps=warmup)
        for rows in steps:
            found = ask(mine, rows)
            assert apart(found.update, theirs(rows), rows) <= 1e-6
            assert found.weights is not None
            moved = max(moved, float((found.weights - 1 / len(rows)).abs().max()))
            advance(mine, rows)
    assert moved > 0.1 * eta


def test_excessmtl_of_torchjd_depends_on_scale_where_ours_does_not():
    """Their 1e-7 outweighs squares of gradients of 1e-6; ours gives the weights of the matrix at size 1."""
    worst = [0.0, 0.0]
    for steps in runs(20, scales=(1.0,)):
        rules = [aggregation.ExcessMTL(eta=1.0), aggregation.ExcessMTL(eta=1.0)]
        theirs = [peers.ExcessMTLWeighting(1.0, 1), peers.ExcessMTLWeighting(1.0, 1)]
        for rows in steps:
            mine = [ask(rule, size * rows).weights for rule, size in zip(rules, (1.0, 1e-6), strict=True)]
            other = [rule(size * rows) for rule, size in zip(theirs, (1.0, 1e-6), strict=True)]
            for place, (plain, small) in enumerate((mine, other)):
                worst[place] = max(worst[place], float((plain - small).abs().max()))
            for rule, size in zip(rules, (1.0, 1e-6), strict=True):
                advance(rule, size * rows)
    assert worst[0] < 1e-9
    assert worst[1] > 1e-3


def test_sdmgrad_of_two_batches_is_never_above_torchjds():
    """On the symmetric part of J1 J2' with its negative eigenvalues set to zero, as TwoBatches gives it."""
    for steps in runs(60, scales=(1.0,)):
        cross = (steps[0] @ steps[1].T + steps[1] @ steps[0].T) / 2
        gramian = true_gramian(cross, (steps[0].norm(dim=1) * steps[1].norm(dim=1)).sqrt())
        heights = []
        for weights in (aggregation.SDMGrad()(gramian), peers.SDMGradWeighting(lambda_=0.3)(gramian)):
            moved = weights.double() * 1.3
            heights.append(float(moved @ gramian @ moved))
        assert heights[0] <= heights[1] * (1 + 1e-9) + 1e-12 * float(gramian.diagonal().max())
