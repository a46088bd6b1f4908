"""RankOne: the strongest rank-one components of all models' task vectors, whichever model they come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.merging.block import Part
from equipoise.merging.matrixrule import MatrixRule, as_matrices, scaled
from equipoise.merging.merge import Model, opened
from equipoise.merging.mergerule import values_of
from equipoise.merging.plan import plan
from equipoise.merging.spectral import Triples, triples

CARD = Card(
    name="RankOne",
    shape="merge",
    summary="The strongest rank-one components among all models, merged; their strengths can be tuned after",
    formula="theta_0 + lambda sum over the k largest sigma_ij of sigma_ij u_ij v_ij^T",
    title="Efficient Multi-Source Knowledge Transfer by Model Merging",
    authors=("Osial", "Wójcik", "Zieliński", "Cygert"),
    venue="arXiv",
    year=2025,
    arxiv="2508.19353",
    cost="m + 1 eigendecompositions of the shorter side of each matrix, in float64",
    use="many sources for one target task, of which little is to be trained: k numbers for each matrix",
    avoid="models that share directions, which then count more than once (TSVM)",
    single="the base moved by lambda times the model's k strongest components",
    status="main",
    evidence="merging",
)


@dataclass(frozen=True)
class RankOne(MatrixRule):
    """The k largest of all models' rank-one components: theta_0 + lambda sum sigma_ij u_ij v_ij^T.

    w_i Delta_i = sum_j sigma_ij u_ij v_ij^T, and the sum goes over the k largest sigma_ij of one matrix,
    from whichever model. All but matrices is averaged. `components` gives the singular triples of the merged
    task vector, for `SingularValues` to tune its k strengths on a target task.

    `density`: k as a share of min(out, in), rounded down, but at least one component; 0.1 in the paper.
    `weight`: w, how much a source is trusted, and `scale`: lambda, are 1 there.

    Raises ValueError for shares not above 0, up to 1.

    Source: Osial et al., arXiv 2025, algorithm 1 (AXIS).

    >>> import torch
    >>> from equipoise.merging import merge
    >>> base, a = {"w": torch.zeros(2, 2)}, {"w": torch.tensor([[3.0, 0.0], [0.0, 1.0]])}
    >>> b = {"w": torch.tensor([[0.5, 0.0], [0.0, 2.0]])}
    >>> merge({"a": a, "b": b}, base, method=RankOne(density=1))["w"]
    tensor([[3., 0.],
            [0., 2.]])
    """

    density: float = 0.1

    copies = 28.0

    def __post_init__(self) -> None:
        if not 0 < self.density <= 1:
            raise ValueError(f"RankOne: density is {self.density}; it is a share above 0, at most 1")

    def combine(self, deltas: Tensor, weights: Tensor) -> Tensor:  # (m, out, in), (m,) -> (out, in)
        found = self._strongest(deltas, weights)
        return (found.left * found.values) @ found.right

    def components(self, part: Part, keep: int | None = None) -> Triples | None:
        """The `keep` largest singular triples, or all k, of what is added to the base; None for no matrix."""
        matrices = as_matrices(part.deltas, self.kernels)
        if matrices is None:
            return None
        k = self._kept(matrices)
        merged = self.combine(matrices, values_of(self.weight, part.names)).to(matrices.dtype)
        left, values, right = triples(merged.mul_(self.scale), min(k, keep or k))
        return Triples(*(one.to(matrices.dtype) for one in (left, values, right)))

    def _kept(self, deltas: Tensor) -> int:
        return max(1, int(self.density * min(deltas.shape[1:])))

    def _strongest(self, deltas: Tensor, weights: Tensor) -> Triples:
        """The k largest triples of all models, of equal ones those of the first."""
        kept = self._kept(deltas)
        pool = triples(torch.zeros_like(deltas[0]))
        for delta in scaled(deltas, weights):
            found = triples(delta, kept)
            values = torch.cat([pool.values, found.values])
            best = values.argsort(descending=True, stable=True)[:kept]
            left, right = torch.cat([pool.left, found.left], 1), torch.cat([pool.right, found.right])
            pool = Triples(left[:, best], values[best], right[best])
        return pool


def rank_one_components(
    checkpoints: Mapping[str, Model] | Sequence[Model],
    base: Model,
    rule: RankOne | None = None,
    keep: int | None = None,
) -> dict[str, Triples]:
    """The singular triples of the merged task vector of each matrix, by the name of the tensor.

    They are those of `merge(checkpoints, base, method=rule)`, for `tune_singular_values`: all, or the `keep`
    largest of each matrix.

    Raises ValueError where models do not match, as `merge` does.
    """
    models = opened(checkpoints)
    bound = (rule or RankOne()).bound(tuple(models))
    assert isinstance(bound, RankOne)
    found = plan(models, opened({"base": base})["base"], lambda _: bound)
    given = (
        (tensor, bound.components(block.whole(), keep)) for tensor in found.tensors for block in tensor.blocks
    )
    return {tensor.name: components for tensor, components in given if components is not None}
