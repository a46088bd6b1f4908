"""IsoC: the summed task vector with all its singular values made equal."""

from dataclasses import dataclass

from torch import Tensor

from equipoise.core.card import Card
from equipoise.merging.matrixrule import MatrixRule
from equipoise.merging.mergerule import weighted
from equipoise.merging.spectral import polar

CARD = Card(
    name="IsoC",
    shape="merge",
    summary="The summed task vector with a flat spectrum: every direction counts alike",
    formula="theta_0 + lambda mean(sigma) U V^T, sum_i w_i Delta_i = U diag(sigma) V^T",
    title="No Task Left Behind: Isotropic Model Merging with Common and Task-Specific Subspaces",
    authors=("Marczak", "Magistri", "Cygert", "Twardowski", "Bagdanov", "van de Weijer"),
    venue="ICML",
    year=2025,
    arxiv="2502.04959",
    cost="one eigendecomposition of the shorter side of each matrix, in float64",
    use="several tasks of one base whose sum a few directions would rule",
    avoid="task vectors of low rank, whose rounding it would raise to full size",
    single="the base moved by the model's task vector with a flat spectrum",
    status="main",
    evidence="merging",
)


@dataclass(frozen=True)
class IsoC(MatrixRule):
    """The sum of task vectors, its singular values all set to their mean: theta_0 + lambda mean(s) U V^T.

    sum_i w_i Delta_i = U diag(s) V^T. Directions whose singular value is 0 up to rounding stay 0, and count
    in the mean. All but matrices is averaged.

    `scale`: lambda, tuned by the authors on held-out data, near 1.5 for eight tasks. `weight`: w, 1 in the
    paper.

    Source: Marczak et al., ICML 2025 (Iso-C); `iso_c` of tanganke/fusion_bench.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> base, a = {"w": torch.zeros(2, 2)}, {"w": torch.tensor([[3.0, 0.0], [0.0, 0.0]])}
    >>> merge({"a": a, "b": {"w": torch.tensor([[0.0, 0.0], [0.0, -1.0]])}}, base, method=IsoC())["w"]
    tensor([[ 2.,  0.],
            [ 0., -2.]])
    """

    copies = 12.0

    def combine(self, deltas: Tensor, weights: Tensor) -> Tensor:  # (m, out, in), (m,) -> (out, in)
        factor, values = polar(weighted(weights, deltas), deltas.dtype)
        return factor.mul_(values.mean())
