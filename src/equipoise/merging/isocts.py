"""IsoCTS: a flat spectrum over the common directions of the task vectors and over each model's own."""

from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.merging.matrixrule import MatrixRule, scaled
from equipoise.merging.spectral import polar, triples

CARD = Card(
    name="IsoCTS",
    shape="merge",
    summary="A flat spectrum over the common directions of the task vectors and each model's own ones",
    formula="theta_0 + lambda mean(sigma) U V^T over [common of sum_i Delta_i, own of (1 - P) Delta_i]",
    title="No Task Left Behind: Isotropic Model Merging with Common and Task-Specific Subspaces",
    authors=("Marczak", "Magistri", "Cygert", "Twardowski", "Bagdanov", "van de Weijer"),
    venue="ICML",
    year=2025,
    arxiv="2502.04959",
    cost="m + 3 eigendecompositions of the shorter side of each matrix, in float64",
    use="many unlike tasks of one base, some of whose directions the sum leaves out",
    avoid="few tasks, where it is IsoC; task vectors of low rank",
    single="the base moved by the model's task vector with a flat spectrum",
    status="main",
    evidence="merging",
)


@dataclass(frozen=True)
class IsoCTS(MatrixRule):
    """Common and own directions alike: theta_0 + lambda mean(s) U V^T.

    Of min(out, in) directions, a share `common` are the strongest of sum_i w_i Delta_i, its span on the left
    P; the rest are, in equal numbers, the strongest of (1 - P) w_i Delta_i for each model i. All left and
    all right vectors are replaced by the nearest orthonormal ones, U and V, and all values by their mean.
    The common part is enlarged until the rest divides by the models. All but matrices is averaged.

    `common`: 0.8 in the paper. `scale`: lambda, tuned by the authors on held-out data. `weight`: w, 1 there.

    Raises ValueError for `common` outside 0 to 1.

    Source: Marczak et al., ICML 2025 (Iso-CTS), with the numbers of directions as in `iso_cts` of
    tanganke/fusion_bench.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> base, a = {"w": torch.zeros(2, 2)}, {"w": torch.tensor([[3.0, 0.0], [0.0, 1.0]])}
    >>> merge({"a": a}, base, method=IsoCTS(common=0.5))["w"]
    tensor([[2., 0.],
            [0., 2.]])
    """

    common: float = 0.8

    copies = 20.0

    def __post_init__(self) -> None:
        if not 0 <= self.common <= 1:
            raise ValueError(f"IsoCTS: common is {self.common}; it is a share between 0 and 1")

    def combine(self, deltas: Tensor, weights: Tensor) -> Tensor:  # (m, out, in), (m,) -> (out, in)
        deltas = scaled(deltas, weights)
        rank = min(deltas.shape[1:])
        own = round((rank - int(rank * self.common)) / len(deltas))
        own = min(own, rank // len(deltas))
        shared = triples(deltas.sum(0), rank - own * len(deltas))
        found = [shared]
        for delta in deltas if own else ():
            rest = delta.double()
            rest -= shared.left @ (shared.left.T @ rest)
            found.append(triples(rest.to(delta.dtype), own))
        left, _ = polar(torch.cat([one.left for one in found], 1), deltas.dtype)
        right, _ = polar(torch.cat([one.right for one in found]), deltas.dtype)
        mean = torch.cat([one.values for one in found]).sum() / rank
        return left.mul_(mean) @ right
