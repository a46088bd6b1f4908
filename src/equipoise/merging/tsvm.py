"""TSVM: the strongest singular directions of every task vector, made orthogonal to each other."""

from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.merging.matrixrule import MatrixRule, scaled
from equipoise.merging.spectral import polar, triples

CARD = Card(
    name="TSVM",
    shape="merge",
    summary="The strongest singular directions of every task vector, turned orthogonal to each other",
    formula="theta_0 + lambda U Sigma V^T, U and V the polar factors of [U_1 ..] and [V_1 ..]",
    title="Task Singular Vectors: Reducing Task Interference in Model Merging",
    authors=("Gargiulo", "Crisostomi", "Bucarelli", "Scardapane", "Silvestri", "Rodolà"),
    venue="CVPR",
    year=2025,
    arxiv="2412.00081",
    cost="m + 2 eigendecompositions of the shorter side of each matrix, in float64",
    use="several unlike tasks from one base, without data: task vectors have low rank",
    avoid="more models than a layer is wide; task vectors of full rank",
    single="the base moved towards the model by lambda",
    status="main",
    evidence="merging",
)


@dataclass(frozen=True)
class TSVM(MatrixRule):
    """Singular directions of all models, kept apart: theta_0 + lambda U Sigma V^T (TSV-Merge).

    Of each task vector (out, in), the k = floor(min(out, in) / m) largest singular triples are kept; their
    vectors, side by side, are replaced by the nearest orthonormal ones, U and V; Sigma holds their values.
    All but matrices is averaged, and so is a matrix too narrow for one direction of each model (k = 0).

    `scale`: lambda, 1 in the paper. `weight`: of each task vector, 1 in the paper. Directions that two
    models share to the last digit count once.

    Source: Gargiulo et al., CVPR 2025 (TSV-M); `compute_and_sum_svd_mem_reduction` of
    AntoAndGar/task_singular_vectors.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> base, a = {"w": torch.zeros(2, 2)}, {"w": torch.tensor([[3.0, 0.0], [0.0, 1.0]])}
    >>> merge({"a": a, "b": {"w": torch.tensor([[0.5, 0.0], [0.0, 2.0]])}}, base, method=TSVM())["w"]
    tensor([[3., 0.],
            [0., 2.]])
    """

    copies = 18.0

    def combine(self, deltas: Tensor, weights: Tensor) -> Tensor:  # (m, out, in), (m,) -> (out, in)
        keep = min(deltas.shape[1:]) // len(deltas)
        deltas = scaled(deltas, weights)
        if not keep:
            return deltas.mean(0)
        found = [triples(delta, keep) for delta in deltas]
        left, _ = polar(torch.cat([one.left for one in found], 1), deltas.dtype)
        right, _ = polar(torch.cat([one.right for one in found]), deltas.dtype)
        return left.mul_(torch.cat([one.values for one in found])) @ right
