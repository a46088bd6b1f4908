"""MoCo: the min-norm point of gradients that are tracked over the steps."""

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.errors import unknown
from equipoise.core.keyed import numbered, within
from equipoise.core.rule import GramianRule, LossesAfter, RowTransform
from equipoise.core.shares import Shares, mean_square
from equipoise.core.simplex import project_simplex
from equipoise.core.step import Step
from equipoise.core.tracked import Tracked

CARD = Card(
    name="MoCo",
    shape="gramian",
    summary="Tracks every direction over the steps and moves the weights towards their min-norm point.",
    formula="y_i <- y_i + beta_k (g_i - y_i); w <- project(w - gamma_k (Y Y' + rho I) w); update Y'w",
    title="Mitigating Gradient Bias in Multi-objective Learning: A Provably Convergent Approach",
    authors=(
        "Heshan Fernando",
        "Han Shen",
        "Miao Liu",
        "Subhajit Chaudhury",
        "Keerthiram Murugesan",
        "Tianyi Chen",
    ),
    venue="ICLR",
    year=2023,
    arxiv="2210.12624",
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)", "SIMPLEX", "NON_NEGATIVE", "STATEFUL"),
    single="the tracked direction, at first half of the direction",
    cost="m more copies of the parameters; the rows of every parameter are formed; no quadratic program",
    use="small batches, where the min-norm point of one batch follows its noise",
    avoid="memory is short, or the parameters move faster than the tracking follows",
    status="main",
)

Onto = Literal["project", "softmax"]


class MoCo(Shares, GramianRule):
    """Share out the gains as MGDA does in the long run, from directions in which the noise is averaged away.

    y_i <- y_i + beta_k (g_i - y_i) from y_i = 0 on, with g_i the rows and beta_k = `beta` / k^`beta_decay`;
    w <- project(w - gamma_k (Y Y' / s + rho I) w) on the simplex, from equal weights on, with
    gamma_k = `gamma` / k^`gamma_decay`; the update is Y'w. k counts the steps that an objective has seen.

    When to use: batches are small. When not: there is no room for a second gradient of each objective.

    relative: s is the mean squared length of the y_i, so that gamma needs no unit; False is the paper's
        s = 1.
    onto: "project" as in the paper; "softmax" puts a softmax in its place, as LibMTL does.
    gramian: (m, m) of the tracked rows, which `stages` gives to the engine. Returns (m,).

    Both y and w are kept by name and move in `update`. LibMTL tracks g_i / |g_i| f_i in place of g_i; that is
    no part of the paper and is left to a transform. Raises ValueError for a beta outside (0, 1], a negative
    gamma, rho or decay, and another `onto`. Source: Fernando et al. 2023, algorithm 1; defaults of LibMTL.

    >>> import torch
    >>> MoCo(relative=False)(torch.tensor([[4.0, -2.0], [-2.0, 2.0]]))
    tensor([0.4500, 0.5500], dtype=torch.float64)
    """

    def __init__(
        self,
        *,
        beta: float = 0.5,
        beta_decay: float = 0.5,
        gamma: float = 0.1,
        gamma_decay: float = 0.5,
        rho: float = 0.0,
        relative: bool = True,
        onto: Onto = "project",
    ) -> None:
        super().__init__()
        if onto not in get_args(Onto):
            raise ValueError(unknown("onto", onto, get_args(Onto)))
        for name, value in (("gamma", gamma), ("rho", rho), ("gamma_decay", gamma_decay)):
            if not value >= 0:
                raise ValueError(f"{name} is {value}; it is 0 or more")
        self.gamma, self.gamma_decay, self.rho = gamma, gamma_decay, rho
        self.relative = relative
        self.onto: Onto = onto
        self.tracking = Tracking(beta, beta_decay)
        self.keep("count", 0.0)

    def extra_repr(self) -> str:
        return f"gamma={self.gamma}, gamma_decay={self.gamma_decay}, rho={self.rho}, relative={self.relative}"

    def stages(self) -> tuple[RowTransform, ...]:
        return (self.tracking,)

    def forward(
        self, gramian: Tensor, *, names: Sequence[str] | None = None, groups: Sequence[str] = ()
    ) -> Tensor:  # (m, m) -> (m,)
        return self.moved(gramian, numbered(names, len(gramian)), *groups)

    def moved(self, gramian: Tensor, names: Sequence[str], group: str = "") -> Tensor:  # (m, m) -> (m,)
        gramian = gramian.double()
        count = float(self.read("count", within(group, names)).max()) + 1
        weights = self.shares_of(names, group).to(gramian)
        size = mean_square(gramian) if self.relative else 1.0
        slope = gramian @ weights / size + self.rho * weights
        moved = weights - self.gamma / count**self.gamma_decay * slope
        return project_simplex(moved) if self.onto == "project" else moved.softmax(0)

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        super().update(step, losses, epoch_ended)
        names, _ = self.observed(step)
        for group in step.parts() if names else ():
            kept = within(group, names)
            self.write("count", kept, self.read("count", kept) + 1)
        self.tracking.update(step, losses, epoch_ended)


class Tracking(Tracked):
    """The rows y, which follow the directions by a share `beta` / k^`decay` a step."""

    def __init__(self, beta: float, decay: float) -> None:
        super().__init__()
        if not 0 < beta <= 1 or not decay >= 0:
            raise ValueError(f"beta is {beta} and beta_decay {decay}; they are in (0, 1] and 0 or more")
        self.beta, self.decay = beta, decay

    def extra_repr(self) -> str:
        return f"beta={self.beta}, decay={self.decay}"

    def rate(self, count: int) -> float:
        return self.beta / count**self.decay
