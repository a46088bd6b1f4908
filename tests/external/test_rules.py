"""Our rules against TorchJD's on a thousand matrices each, within where TorchJD is valid.

UPGrad, DualProj and CAGrad of TorchJD turn a matrix whose squared norm is below 1e-4 into zero and add a
ridge of 1e-4; there they are given the matrix over its norm and the least ridge that their solver takes.
"""

from collections.abc import Callable

import pytest
import torch
import torchjd.aggregation as peers
from tests.external.draws import apart, jacobians
from torch import Tensor

from equipoise import aggregation
from equipoise.core.rule import GramianRule
from equipoise.core.step import Step

COUNT = 1000
Update = Callable[[Tensor], Tensor]


def ours(rule: GramianRule) -> Update:
    return lambda rows: rule(rows @ rows.T) @ rows


def at_unit_norm(update: Update) -> Update:
    """Homogeneous of degree one: the same for the matrix over its norm."""
    return lambda rows: update(rows / rows.norm()) * rows.norm()


def projector() -> peers.Weighting:
    try:
        from torchjd.linalg import QuadprogProjector
    except ImportError:
        from torchjd.aggregation._utils.dual_cone import QuadprogProjector
    return QuadprogProjector(norm_eps=0.0, reg_eps=1e-10)


CASES: dict[str, tuple[Update, Update, bool, float]] = {
    # name: (ours, theirs, full rank only, tolerance)
    "Mean": (ours(aggregation.Mean()), peers.Mean(), False, 1e-12),
    "Sum": (ours(aggregation.Sum()), peers.Sum(), False, 1e-12),
    "UPGrad": (ours(aggregation.UPGrad()), at_unit_norm(peers.UPGrad(projector=projector())), True, 1e-6),
    "DualProj": (
        ours(aggregation.DualProj()),
        at_unit_norm(peers.DualProj(projector=projector())),
        True,
        1e-6,
    ),
    "CAGrad": (ours(aggregation.CAGrad(c=0.5, rescale=0)), at_unit_norm(peers.CAGrad(c=0.5)), True, 1e-3),
    "ConFIG": (ours(aggregation.ConFIG()), peers.ConFIG(), True, 1e-6),
    "AlignedMTL": (ours(aggregation.AlignedMTL()), peers.AlignedMTL(), True, 1e-6),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_torchjd(name):
    mine, theirs, full_rank, allowed = CASES[name]
    gaps = [apart(mine(rows), theirs(rows), rows) for rows in jacobians(COUNT, full_rank=full_rank)]
    assert max(gaps) <= allowed, f"largest {max(gaps):.2g}, median {sorted(gaps)[COUNT // 2]:.2g}"


@pytest.mark.parametrize("name", ["UPGrad", "DualProj"])
def test_projections_of_any_rank_equal_torchjd_but_for_its_ridge(name):
    """Where a Gramian is singular the least ridge that its solver takes moves the answer by up to 0.0015."""
    theirs = at_unit_norm(getattr(peers, name)(projector=projector()))
    mine = ours(getattr(aggregation, name)())
    gaps = sorted(apart(mine(rows), theirs(rows), rows) for rows in jacobians(COUNT))
    assert gaps[int(0.9 * COUNT)] <= 1e-6
    assert gaps[-1] <= 5e-3


@pytest.mark.parametrize(
    ("name", "mine"), [("PCGrad", aggregation.PCGrad()), ("GradVac", aggregation.GradVac())]
)
def test_pairs_equal_torchjd_where_the_order_does_not_matter(name, mine):
    """Two objectives meet once. TorchJD's GradVac adds 1e-8 to norms, so small matrices are left out."""
    worst = 0.0
    for rows in jacobians(7 * COUNT, scales=(1.0, 1e3, 1e6)):
        if len(rows) == 2:
            theirs = getattr(peers, name)()(rows)
            worst = max(worst, apart(ours(mine)(rows), theirs, rows))
    assert worst <= 1e-5


def test_imtlg_points_the_same_way_where_its_weights_sum_to_more_than_nothing():
    """The published weights may sum to less than nothing, and then point uphill; ours are turned round."""
    same = 0
    for rows in jacobians(COUNT, full_rank=True, scales=(1.0,)):
        mine, theirs = ours(aggregation.IMTLG())(rows), peers.IMTLG()(rows)
        cosine = float(mine @ theirs / mine.norm() / theirs.norm())
        assert abs(cosine) == pytest.approx(1, abs=1e-6)
        same += cosine > 0
    assert same > 0.6 * COUNT


def test_fairgrad_solves_its_equation_better():
    """G w = 1 / w: the largest violation, ours and that of TorchJD's least squares."""
    closer = 0
    for rows in jacobians(COUNT, full_rank=True, scales=(1.0,)):
        gramian = rows @ rows.T
        mine = aggregation.FairGrad()(gramian)
        theirs = peers.FairGradWeighting(alpha=1.0)(gramian).double()
        off = [float((w * (gramian @ w) - 1).abs().max()) for w in (mine, theirs)]
        assert off[0] < 1e-8
        closer += off[0] <= off[1] + 1e-9
    assert closer > 0.99 * COUNT


def test_mgda_is_never_above_torchjd():
    worst = 0.0
    for rows in jacobians(COUNT):
        gramian = rows @ rows.T
        mine, theirs = aggregation.MGDA()(gramian), peers.MGDAWeighting()(gramian).double()
        size = gramian.diagonal().max()
        assert float(mine @ gramian @ mine) <= float(theirs @ gramian @ theirs) + 1e-12 * float(size)
        worst = max(worst, float((theirs @ gramian @ theirs - mine @ gramian @ mine) / size))
    assert worst > 0


def test_sdmgrad_is_never_above_torchjd_and_mostly_well_below():
    below = 0
    for rows in jacobians(COUNT, full_rank=True, scales=(1.0,)):
        gramian, m = rows @ rows.T, len(rows)
        heights = []
        for weights in (aggregation.SDMGrad()(gramian), peers.SDMGradWeighting(lambda_=0.3)(gramian)):
            moved = weights.double() * 1.3
            assert float(weights.sum()) == pytest.approx(1, abs=1e-6), m
            heights.append(float(moved @ gramian @ moved))
        assert heights[0] <= heights[1] * (1 + 1e-9)
        below += heights[1] > 1.05 * heights[0]
    assert below > 0.3 * COUNT


def test_graddrop_keeps_the_same_signs_equally_often():
    """In distribution: how often each coordinate is positive, over 2,000 draws."""
    rows = torch.tensor([[2.0, 1.0, -1.0], [-1.0, 1.0, -3.0]])
    rule, theirs = aggregation.GradDrop(), peers.GradDrop()
    torch.manual_seed(0)
    counts = torch.zeros(2, 3)
    record = Step(("a", "b"), torch.zeros(2), None)
    for _ in range(2000):
        counts[0] += rule(rows) > 0
        counts[1] += theirs(rows) > 0
        rule.update(record)
    assert float((counts[0] - counts[1]).abs().max()) / 2000 < 0.05
