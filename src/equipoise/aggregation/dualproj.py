"""DualProj: project the mean so that it hurts no objective."""

from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.preference import preference_like
from equipoise.core.qp import dual_cone
from equipoise.core.rule import GramianRule

CARD = Card(
    name="DualProj",
    shape="gramian",
    summary="The mean direction, moved as little as possible until it hurts no objective.",
    formula="w = argmin over v >= p of v'Gv",
    title="Gradient Episodic Memory for Continual Learning",
    authors=("David Lopez-Paz", "Marc'Aurelio Ranzato"),
    venue="NeurIPS",
    year=2017,
    arxiv="1706.08840",
    guarantees=(
        "PERMUTATION",
        "NON_CONFLICTING",
        "HOMOGENEOUS(1)",
        "STRONGLY_STATIONARY",
        "NON_NEGATIVE",
        "PREFERENCE",
    ),
    single="the direction itself",
    cost="the Gramian and one quadratic program of size m",
    use="the mean is what is wanted, save where it would hurt an objective",
    avoid="long directions drown the others in the mean: the projection keeps them only from being hurt",
    status="main",
)


class DualProj(GramianRule):
    """Follow the mean where it hurts nobody, else the nearest direction that does not.

    w = argmin_{v >= p} v'Gv, with G = `gramian` and p = `preference`: J'p is projected on the cone
    {d : Jd >= 0} (Lopez-Paz & Ranzato 2017, equation 11, with the mean in place of the new task's
    gradient and every task as a constraint).

    When to use: the mean is right most of the time, and a guard is wanted for the rest.
    When not: some directions are much longer; UPGrad projects each on its own.

    Zero rows keep p_i as weight; exact opposites cancel.

    >>> import torch
    >>> DualProj()(torch.tensor([[18.0, -22.0], [-22.0, 38.0]]))
    tensor([0.6111, 0.5000], dtype=torch.float64)
    """

    batched = True

    def forward(
        self, gramian: Tensor, *, preference: Tensor | None = None
    ) -> Tensor:  # (..., m, m), (m,) -> (..., m)
        chosen = preference_like(preference, gramian.flatten(0, -2)[0])
        return dual_cone(gramian, chosen[None]).value[..., 0, :]
