"""DOGE: task vectors changed together by descent off their shared directions, then trimmed."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.merging.block import Block, Blocks, Part
from equipoise.merging.digits import global_values
from equipoise.merging.matrixrule import as_matrices, matrix_shape
from equipoise.merging.mergerule import MergeRule, check_least
from equipoise.merging.spectral import triples

CARD = Card(
    name="DOGE",
    shape="merge",
    summary="Task vectors changed together by descent off their shared directions, then trimmed and summed",
    formula="theta_0 + sum_i eta / |Delta_i| top_K(Delta_i + delta), delta by projected descent",
    title="Modeling Multi-Task Model Merging as Adaptive Projective Gradient Descent",
    authors=("Wei", "Tang", "Shen", "Hu", "Yuan", "Cao"),
    venue="ICML",
    year=2025,
    arxiv="2501.01230",
    cost="400 passes over the m task vectors of each matrix; two passes over all for the threshold",
    use="many unlike tasks of one base, without data",
    avoid="layers whose task vectors are not near the length eta: rates and lengths are absolute",
    single="the base moved by eta along the largest elements of the model's task vector, changed by delta",
    status="main",
    evidence="merging",
)


@dataclass(frozen=True)
class DOGE(MergeRule):
    """Adaptive projective gradient descent: theta_0 + sum_i l_i top_K(D_i + d), with l_i = eta / |D_i|.

    For each matrix, d is the change of all task vectors D_i that keeps each one's effect on its own inputs,
    for which D_i stands: it minimises sum_i sum_rows <D_i, D_i - sum_j l_j (D_j + d)>^2 by `iterations` steps
    of Adam at `rate`. Gradients are projected off the shared subspace, the min(out, in) / `subspace`
    strongest left directions of [U_1 .. U_m], where U_i holds the min(out, in) / m strongest of D_i. Without
    that projection each row of d would be a least squares of m equations; with it, rows depend on each other.

    `eta`: the length that each model adds to each matrix. `density`: K, the share of elements of D_i, over
    all matrices of a model, that are kept; d counts for those alone. `kernels`: take kernels of convolutions
    as matrices (out, in * kernel) too. `others`: all else keeps the "base", as in the authors' code, or is
    moved by the "average" of the task vectors. The code merges the matrices of encoder layers alone: give
    `merge` a function from names to rules to leave out embeddings and heads.

    Raises ValueError for shares and subspaces out of range, and negative numbers.

    Source: Wei et al., ICML 2025; `DOGE_TA_Algorithm` of tanganke/fusion_bench.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> base, a = {"w": torch.zeros(2, 2)}, {"w": torch.tensor([[0.0, 0.0], [0.0, -2.0]])}
    >>> merge({"a": a}, base, method=DOGE(iterations=0))["w"]
    tensor([[ 0.0000,  0.0000],
            [ 0.0000, -0.0700]])
    """

    eta: float = 0.07
    density: float = 0.3
    subspace: int = 6
    iterations: int = 400
    rate: float = 1e-4
    kernels: bool = False
    others: Literal["base", "average"] = "base"

    needs_base = True
    whole = True
    copies = 22.0
    per_model = ()

    def __post_init__(self) -> None:
        if not 0 < self.density <= 1:
            raise ValueError(f"DOGE: density is {self.density}; it is a share above 0, at most 1")
        if self.subspace < 1:
            raise ValueError(f"DOGE: subspace is {self.subspace}; it divides the rank, so it is 1 or more")
        for name in ("eta", "iterations", "rate"):
            check_least("DOGE", name, getattr(self, name), 0)
        if self.others not in ("base", "average"):
            raise ValueError(f"DOGE: others is {self.others!r}; known are 'base' and 'average'")

    def survey(self, blocks: Blocks) -> dict[str, float]:
        """For each model, the magnitude from which on elements of its matrices are kept."""
        matrices = Blocks([block for block in blocks if self._is_matrix(block)], blocks.threads)
        numel = dict.fromkeys(matrices.names, 0)
        for block in matrices:
            for name in block.names:
                numel[name] += block.numel
        ranks = {name: min(n, int(n * self.density) + 1) for name, n in numel.items()}
        return global_values(matrices, ranks)

    def surveyed_alike(self) -> Any:
        return self.density, self.kernels

    def cost(self, block: Block) -> float:
        """Decompositions of m matrices by their shorter sides, and steps of descent."""
        shape = matrix_shape(block.shape, self.kernels)
        return super().cost(block) * (1 if shape is None else min(shape) + self.iterations)

    def merge(self, part: Part, measured: dict[str, float]) -> Tensor:  # -> part.shape
        if not self._is_matrix(part.block):
            return part.base if self.others == "base" else part.base + part.deltas.mean(0)
        deltas = as_matrices(part.deltas, self.kernels)
        assert deltas is not None
        norms = torch.stack([torch.linalg.vector_norm(delta, dtype=torch.float64) for delta in deltas])
        lengths = torch.where(norms > 0, self.eta / norms, 0.0).to(deltas.dtype)
        change = self._change(deltas, lengths)
        merged = part.base.view_as(change)
        for delta, length, name in zip(deltas, lengths.tolist(), part.names, strict=True):
            kept = delta.abs() >= measured[name]
            merged.add_(delta.add_(change).mul_(kept), alpha=length)
        return part.base

    def _is_matrix(self, block: Block) -> bool:
        return matrix_shape(block.shape, self.kernels) is not None

    def _change(self, deltas: Tensor, lengths: Tensor) -> Tensor:  # (m, out, in), (m,) -> (out, in)
        """The change d of all task vectors, by descent."""
        shared = self._shared(deltas)
        total = lengths.sum()
        summed = torch.tensordot(lengths, deltas, dims=1)
        gaps = [(delta * (delta - summed)).sum(1) for delta in deltas]
        del summed
        change = torch.zeros_like(deltas[0])
        gradient, product = torch.empty_like(change), torch.empty_like(change)
        optimizer = torch.optim.Adam([change], lr=self.rate)
        for _ in range(self.iterations):
            gradient.zero_()
            for delta, gap in zip(deltas, gaps, strict=True):
                left = gap - total * torch.mul(delta, change, out=product).sum(1)
                gradient.addcmul_(delta, left[:, None], value=-2.0)
            gradient.mul_(total).sub_(shared @ (shared.T @ gradient))
            change.grad = gradient
            optimizer.step()
        return change

    def _shared(self, deltas: Tensor) -> Tensor:  # (m, out, in) -> (out, k)
        """Orthonormal columns that span the directions which the task vectors share."""
        rank = min(deltas.shape[1:])
        found = [triples(delta, rank // len(deltas)).left for delta in deltas]
        if len(found) == 1:
            return found[0][:, : rank // self.subspace].to(deltas.dtype)
        return triples(torch.cat(found, 1), rank // self.subspace).left.to(deltas.dtype)
