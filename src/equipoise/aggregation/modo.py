"""MoDo: the min-norm weights, followed by one step of descent for each pair of batches."""

from collections.abc import Sequence

from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.keyed import numbered
from equipoise.core.rule import GramianRule
from equipoise.core.shares import Shares, mean_square
from equipoise.core.simplex import project_simplex

CARD = Card(
    name="MoDo",
    shape="gramian",
    summary="Moves the weights by a step towards the min-norm point, which two batches show without bias.",
    formula="w <- project(w - gamma (J1 J2' w + rho w)) on the simplex",
    title="Three-Way Trade-Off in Multi-Objective Learning: Optimization, Generalization and "
    "Conflict-Avoidance",
    authors=("Lisha Chen", "Heshan Fernando", "Yiming Ying", "Tianyi Chen"),
    venue="NeurIPS",
    year=2023,
    arxiv="2305.20057",
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)", "SIMPLEX", "NON_NEGATIVE", "STATEFUL"),
    single="the direction itself",
    cost="the Gramian of two batches; no quadratic program",
    use="stochastic training where weights should follow the objectives and not the noise of a batch",
    avoid="conflict that comes and goes faster than the weights move",
    status="main",
)


class MoDo(Shares, GramianRule):
    """Share out the gains as MGDA does in the long run, by weights that move a little with each step.

    w <- project(w - gamma (A w / s + rho w)) on the simplex, from equal weights on, with A = J1 J2' the
    inner products of the directions of one batch with those of another. Since the batches are independent,
    A w is an unbiased slope of |J'w|^2 / 2; with A = JJ' of one batch it is not, and noisy directions lose.

    When to use: stochastic training. When not: the conflict changes from one step to the next.

    gamma: step of the weights, positive; rho: pull towards equal weights, 0 or more. 0.1 each as in TorchJD.
    relative: s is the mean size of the diagonal of A, so that gamma needs no unit; False is the paper's
        s = 1.
    gramian: (m, m), A, which need not be symmetric; `TwoBatches(MoDo())` forms it. Returns (m,).

    The weights after the step are those that the update takes, as in the paper; they are kept by name and
    move in `update`. Raises ValueError for a gamma that is not positive and a negative rho. Source: Chen et
    al. 2023, equation 2.9 of the version in JMLR 2024, with the rho of the authors' code.

    >>> import torch
    >>> MoDo(relative=False, rho=0.0)(torch.tensor([[4.0, -2.0], [-2.0, 2.0]]))
    tensor([0.4500, 0.5500], dtype=torch.float64)
    """

    crosses = True

    def __init__(self, *, gamma: float = 0.1, rho: float = 0.1, relative: bool = True) -> None:
        super().__init__()
        if not gamma > 0:
            raise ValueError(f"gamma is {gamma}; it must be positive")
        if not rho >= 0:
            raise ValueError(f"rho is {rho}; it is 0 or more")
        self.gamma, self.rho, self.relative = gamma, rho, relative

    def extra_repr(self) -> str:
        return f"gamma={self.gamma}, rho={self.rho}, relative={self.relative}"

    def forward(
        self, gramian: Tensor, *, names: Sequence[str] | None = None, groups: Sequence[str] = ()
    ) -> Tensor:  # (m, m) -> (m,)
        return self.moved(gramian, numbered(names, len(gramian)), *groups)

    def moved(self, gramian: Tensor, names: Sequence[str], group: str = "") -> Tensor:  # (m, m) -> (m,)
        gramian = gramian.double()
        weights = self.shares_of(names, group).to(gramian)
        size = mean_square(gramian) if self.relative else 1.0
        return project_simplex(weights - self.gamma * (gramian @ weights / size + self.rho * weights))
