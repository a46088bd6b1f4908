"""UPGrad: project each direction so that it hurts no objective, then combine."""

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.preference import preference_like
from equipoise.core.qp import dual_cone
from equipoise.core.rule import GramianRule

CARD = Card(
    name="UPGrad",
    shape="gramian",
    summary="Each direction is projected on the updates that hurt no objective, then all are averaged.",
    formula="w = sum_i argmin over v >= p_i e_i of v'Gv",
    title="Jacobian Descent for Multi-Objective Optimization",
    authors=("Pierre Quinton", "Valérian Rey"),
    venue="arXiv",
    year=2024,
    arxiv="2406.16232",
    guarantees=(
        "PERMUTATION",
        "NON_CONFLICTING",
        "HOMOGENEOUS(1)",
        "LINEAR_IN_ROW_SCALE",
        "STRONGLY_STATIONARY",
        "NON_NEGATIVE",
        "PREFERENCE",
    ),
    single="the direction itself",
    cost="the Gramian and m quadratic programs of size m, solved together",
    use="no objective may be hurt, and longer directions should count for more, as they do in the mean",
    avoid="a few short or noisy directions would veto the progress of all the others",
    status="main",
)


class UPGrad(GramianRule):
    """Keep what each objective asks for, less the part that would hurt another.

    w = sum_i argmin_{v >= p_i e_i} v'Gv, with G = `gramian` and p = `preference`: row i is
    projected on the dual cone of the rows, and the projections are combined with the preference
    (Quinton & Rey 2024, equation 4 and proposition 1).

    When to use: no objective may be hurt; the update stays linear in the length of each direction.
    When not: noise makes some direction a poor guide, for each one holds a veto.

    Zero rows keep p_i as weight; exact opposites cancel.

    >>> UPGrad()(torch.tensor([[4.0, -2.0], [-2.0, 2.0]]))
    tensor([0.7500, 1.0000], dtype=torch.float64)
    """

    batched = True

    def forward(
        self, gramian: Tensor, *, preference: Tensor | None = None
    ) -> Tensor:  # (..., m, m), (m,) -> (..., m)
        chosen = preference_like(preference, gramian.flatten(0, -2)[0])
        return dual_cone(gramian, torch.diag(chosen)).value.sum(-2)
