"""Tchebycheff scalarisation: the worst weighted loss."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.keyed import by_name, numbered
from equipoise.core.preference import preference_like
from equipoise.core.rule import Scalarizer

CARD = Card(
    name="Tchebycheff",
    shape="scalarizer",
    summary="Minimises the worst loss, weighted by the preference.",
    formula="max_i p_i (f_i - z_i)",
    title="On the Relationship of the Tchebycheff Norm and the Efficient Frontier "
    "of Multiple-Criteria Objectives",
    authors=("V. Joseph Bowman Jr.",),
    venue="Multiple Criteria Decision Making, Lecture Notes in Economics and Mathematical Systems 130",
    year=1976,
    doi="10.1007/978-3-642-87563-2_5",
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)", "NON_NEGATIVE", "CONVEX", "PREFERENCE"),
    single="the direction itself",
    cost="one backward pass",
    use="when every objective must be good, or the front is concave",
    avoid="with noisy losses: only the worst objective trains in each step, and the worst one flickers",
    status="main",
)


class Tchebycheff(Scalarizer):
    """The worst loss above its reference point, weighted by the preference.

    max_i p_i (f_i - z_i) with f `losses`, p `preference` (uniform, 1/m, by default) and z
    `reference`, one number or one for each objective by name. Its derivative is p_i at the worst
    objective and 0 elsewhere, divided evenly where several are equally bad; with the uniform preference
    a step is thus m times shorter than one on the worst loss itself.

    Use it when no objective may stay behind, and where the front is concave: every Pareto optimal
    point is the minimiser for some p. Not with noisy losses (SmoothTchebycheff, OMDTchebycheff).

    Raises ValueError naming an objective that `reference` lacks.
    Source: Bowman 1976; Miettinen 1998, method of weighted metrics.

    >>> import torch
    >>> Tchebycheff()(torch.tensor([1.0, 4.0]))
    tensor(2.)
    """

    preference_means = "reciprocals"

    def __init__(self, *, reference: float | Mapping[str, float] = 0.0) -> None:
        super().__init__()
        self.reference = reference

    def forward(
        self, losses: Tensor, *, preference: Tensor | None = None, names: Sequence[str] | None = None
    ) -> Tensor:  # (m,), (m,) -> ()
        reference = by_name(self.reference, numbered(names, losses.numel())).to(losses)
        return (preference_like(preference, losses) * (losses - reference)).amax()
