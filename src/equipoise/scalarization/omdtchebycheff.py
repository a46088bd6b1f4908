"""OMD-TCH: mirror ascent on the simplex finds the weights of the worst weighted loss."""

from collections.abc import Iterable, Mapping, Sequence
from math import log
from typing import Literal

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.keyed import Keyed, by_name, numbered
from equipoise.core.preference import preference_like
from equipoise.core.rule import LossesAfter, Scalarizer
from equipoise.core.simplex import project_simplex
from equipoise.core.step import Step

CARD = Card(
    name="OMDTchebycheff",
    shape="scalarizer",
    summary="Minimises the worst weighted loss by mirror ascent on the weights.",
    formula="sum_i lambda_i p_i (f_i - z_i), lambda <- lambda exp(eta p (f - z)) / Z",
    title="Adaptive Online Mirror Descent for Tchebycheff Scalarization in Multi-Objective Learning",
    authors=("Meitong Liu", "Xiaoyuan Zhang", "Chulin Xie", "Kate Donahue", "Han Zhao"),
    venue="TMLR",
    year=2026,
    arxiv="2410.21764",
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)", "NON_NEGATIVE", "CONVEX", "PREFERENCE", "STATEFUL"),
    single="the direction itself",
    cost="one backward pass",
    use="for the worst objective under noise, or a preferred point on a concave front",
    avoid="when the mean is what counts; the worst objective is bought at its expense",
    status="experimental",
    evidence="omd_tchebycheff",
)


class OMDTchebycheff(Keyed, Scalarizer):
    """The worst weighted loss, as a game: weights climb towards bad objectives, parameters descend.

    min_theta max_lambda sum_i lambda_i p_i (f_i - z_i), lambda on the simplex, with f `losses`, p
    `preference` (uniform, 1/m, by default) and z `reference` (one number, or one for each objective by
    name). `forward` holds lambda fixed: the weight of objective i is lambda_i p_i. `update` then moves
    lambda by eta_lambda `step_size` on the losses of the step: "exponentiated" multiplies by
    exp(eta_lambda p_i (f_i - z_i)) and normalises; "projected" adds eta_lambda p_i (f_i - z_i) and projects.

    Use it when no objective may stay behind and the losses are noisy, or where the front is
    concave. Not when the mean counts. The theory is about the average of the iterates, the
    last one can circle: AdaOMDTchebycheff keeps such averages.

    Scale: as in the paper the step carries the factor p_i. Under the uniform preference both steps
    are thus 1/m of those on the losses themselves: m times the learning rate and m times
    `step_size` give those. lambda spans all objectives seen so far; one absent from a batch keeps its
    logit (projected: its gradient counts as 0) and a new one enters with the mean share.
    Raises ValueError for an unknown geometry or a step size that is not positive.
    Source: Liu et al. 2026, OMDeg-TCH and OMDgd-TCH.

    >>> rule, losses = OMDTchebycheff(step_size=2.0), torch.tensor([1.0, 4.0], dtype=torch.float64)
    >>> rule.update(Step(("a", "b"), losses, None))
    >>> rule.shares(("a", "b"))
    tensor([0.0474, 0.9526], dtype=torch.float64)
    """

    preference_means = "reciprocals"

    def __init__(
        self,
        *,
        step_size: float = 1.0,
        geometry: Literal["exponentiated", "projected"] = "exponentiated",
        reference: float | Mapping[str, float] = 0.0,
        objectives: Iterable[str] | None = None,
    ) -> None:
        super().__init__(objectives=objectives)
        if geometry not in ("exponentiated", "projected"):
            raise ValueError(f'geometry is {geometry!r}; it is "exponentiated" or "projected"')
        if not step_size > 0:
            raise ValueError(f"step_size is {step_size}; it must be positive")
        self.step_size = step_size
        self.geometry = geometry
        self.reference = reference
        if geometry == "exponentiated":
            self.keep("logits", 0.0)  # log(n lambda), so that a newcomer at 0 has the mean share
        else:
            self.keep("scaled", 1.0)  # n lambda

    def shares(self, names: Sequence[str]) -> Tensor:  # -> (m,)
        """lambda of `names`; it sums to 1 over all objectives seen so far together with `names`."""
        scaled = self.read("logits", names).exp() if "logits" in self._buffers else self.read("scaled", names)
        return scaled / len(self.union(names))

    def forward(
        self, losses: Tensor, *, preference: Tensor | None = None, names: Sequence[str] | None = None
    ) -> Tensor:  # (m,), (m,) -> ()
        names = numbered(names, losses.numel())
        reference = by_name(self.reference, names).to(losses)
        weights = self.shares(names).to(losses) * preference_like(preference, losses)
        return (weights * (losses - reference)).sum()

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        names, values = self.observed(step)
        if not names:
            return
        preference = None
        if step.preference is not None:
            preference = step.preference[[step.names.index(name) for name in names]]
            preference = preference / preference.sum().clamp(min=torch.finfo(preference.dtype).tiny)
        weighted = preference_like(preference, values) * (values - by_name(self.reference, names))
        gain = self.step_size * weighted
        everyone = self.union(names)
        if self.geometry == "exponentiated":
            self.write("logits", names, self.read("logits", names) + gain.to(self.get_buffer("logits")))
            logits = self.get_buffer("logits")
            self.write("logits", everyone, logits - (logits.logsumexp(0) - log(len(everyone))))
        else:
            shares = self.shares(everyone)
            climbed = torch.zeros_like(shares)
            climbed[[everyone.index(name) for name in names]] = gain.to(shares)
            # a constant on all entries does not change the projection, but large ones cost digits
            shares = project_simplex(shares + (climbed - climbed.amax()))
            self.write("scaled", everyone, shares * len(everyone))
