"""WUDI: the task vector that meets every model's own inputs, told by its task vector, as the model does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.merging.block import Block, Part
from equipoise.merging.matrixrule import MatrixRule, matrix_shape
from equipoise.merging.mergerule import MergeRule, check_least
from equipoise.merging.preconditioned import by_inputs, positive_weights

CARD = Card(
    name="WUDI",
    shape="merge",
    summary="The merged task vector that disturbs each model least on the rows of its own task vector",
    formula="argmin_M sum_i w_i |(M - Delta_i) Delta_i^T|^2 / |Delta_i|^2",
    title="Whoever Started the Interference Should End It: Guiding Data-Free Model Merging via Task Vectors",
    authors=("Cheng", "Xiong", "Wei", "Zhu", "Yuan"),
    venue="ICML",
    year=2025,
    arxiv="2503.08099",
    cost="a solve of side min(in, m out) in float64 for each matrix",
    use="unlike tasks from one base, without data and without a scale to tune",
    avoid="layers that are not linear: all but matrices is only averaged",
    single="the model itself, where ridge is 0; else a little nearer to the base",
    status="main",
    evidence="merging",
)


@dataclass(frozen=True)
class WUDI(MatrixRule):
    """Least interference on inputs told by task vectors: argmin_M sum_i w_i |(M - D_i) D_i^T|^2 / |D_i|^2.

    The rows of a linear layer's task vector D_i (out, in) span what its inputs spanned in training, so D_i
    stands for them. With H_i = D_i^T D_i / |D_i|^2 the minimum is M = (sum w_i D_i H_i) (sum w_i H_i)^-1.

    `solver`: "closed" gives it, with `ridge` |M|^2 added as a share of the mean diagonal of sum H: 0 is the
    exact minimum, which fits directions that hardly count, and a little ridge holds them back. "adam" is
    the authors' way, `iterations` steps of Adam at `rate` from the sum of task vectors, not scaled to their
    size: for comparison. `weight`: w, in the objective; `scale`: of M, 1 in the paper. All but matrices is
    averaged.

    Raises ValueError for unknown solvers, negative numbers, and weights that are all 0.

    Source: Cheng et al., ICML 2025; `get_redundant_task_vector` of nathanielyvo/WUDI-Merging.
    The closed form with ridge is ours.

    >>> import torch
    >>> from equipoise.merging import merge
    >>> base, a = {"w": torch.zeros(1, 2)}, {"w": torch.tensor([[2.0, 0.0]])}
    >>> merge({"a": a, "b": {"w": torch.tensor([[0.0, 4.0]])}}, base, method=WUDI(ridge=0))["w"]
    tensor([[2., 4.]])
    """

    solver: Literal["closed", "adam"] = "closed"
    ridge: float = 0.01
    iterations: int = 300
    rate: float = 1e-5

    copies = 8.0

    def __post_init__(self) -> None:
        if self.solver not in ("closed", "adam"):
            raise ValueError(f"WUDI: solver is {self.solver!r}; known are 'closed' and 'adam'")
        for name in ("ridge", "iterations", "rate"):
            check_least("WUDI", name, getattr(self, name), 0)

    def merge(self, part: Part, measured: Any) -> Tensor:  # -> part.shape
        positive_weights("WUDI", self.weight, part.names)
        return super().merge(part, measured)

    def combine(self, deltas: Tensor, weights: Tensor) -> Tensor:  # (m, out, in), (m,) -> (out, in)
        sizes = torch.stack([torch.linalg.vector_norm(delta, dtype=torch.float64) for delta in deltas])
        factors = torch.where(sizes > 0, weights / sizes.square(), 0.0)
        if self.solver == "adam":
            return self._descended(deltas, factors)
        return by_inputs(deltas, deltas, factors, ridge=self.ridge, centre=deltas.new_zeros(()))

    def beside(self, block: Block) -> int:
        """The matrix to be solved in five copies, and all rows where it is made of them, in float64."""
        m, (out, width) = len(block), matrix_shape(block.shape, self.kernels) or (0, 0)
        side = min(m * out, width)
        return 8 * (5 * side**2 + (m * out * (width + out) if side < width else 0))

    def cost(self, block: Block) -> float:
        m, (out, width) = len(block), matrix_shape(block.shape, self.kernels) or (0, 0)
        side = min(m * out, width)
        steps = self.iterations * block.numel if self.solver == "adam" else side**2
        return MergeRule.cost(self, block) + side * (m * block.numel + steps)

    def _descended(self, deltas: Tensor, factors: Tensor) -> Tensor:
        merged = deltas.sum(0)
        gradient = _gradient(deltas, factors)
        optimizer = torch.optim.Adam([merged], lr=self.rate)
        for _ in range(self.iterations):
            merged.grad = gradient(merged)
            optimizer.step()
        return merged


def _gradient(deltas: Tensor, factors: Tensor) -> Callable[[Tensor], Tensor]:
    """The gradient of sum_i c_i |(M - D_i) D_i^T|^2 in M, by what is smaller: all D_i, or sum_i H_i."""
    m, out, width = deltas.shape
    each = [(delta, factor) for delta, factor in zip(deltas, factors.tolist(), strict=True) if factor]
    if m * out < width:

        def among_rows(merged: Tensor) -> Tensor:
            found = torch.zeros_like(merged)
            for delta, factor in each:
                found.addmm_((merged - delta) @ delta.T, delta, alpha=2 * factor)
            return found

        return among_rows
    total = deltas.new_zeros(width, width)
    wanted = torch.zeros_like(deltas[0])
    for delta, factor in each:
        rows = delta.double()
        metric = (rows.T @ rows).mul_(factor).to(deltas.dtype)
        total += metric
        wanted.addmm_(delta, metric)
    return lambda merged: torch.addmm(wanted, merged, total, beta=-1).mul_(2)
