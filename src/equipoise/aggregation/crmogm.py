"""CRMOGM: the weights of a rule, averaged over the steps."""

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.aggregation.mgda import MGDA
from equipoise.core.card import Card
from equipoise.core.keyed import Keyed, numbered, within
from equipoise.core.rule import GramianRule, LossesAfter, RowTransform
from equipoise.core.step import Step

CARD = Card(
    name="CRMOGM",
    shape="gramian",
    summary="Averages the weights of another rule over the steps, so that they do not follow single batches.",
    formula="w_k = alpha w_(k-1) + (1 - alpha) v_k, with v_k the weights of the rule",
    title="On the Convergence of Stochastic Multi-Objective Gradient Manipulation and Beyond",
    authors=("Shiji Zhou", "Wenpeng Zhang", "Jiyan Jiang", "Wenliang Zhong", "Jinjie Gu", "Wenwu Zhu"),
    venue="NeurIPS",
    year=2022,
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)", "SIMPLEX", "NON_NEGATIVE", "STATEFUL"),
    single="the direction itself",
    cost="that of the rule",
    use="around MGDA, UPGrad, CAGrad or PCGrad where batches are small and weights jump",
    avoid="no objective may be hurt in any step: averaged weights promise nothing for this batch",
    status="main",
)


class CRMOGM(Keyed, GramianRule):
    """Keeps the weights of a rule from jumping with the noise of each batch.

    w_k = alpha w_(k-1) + (1 - alpha) v_k, with v_k the weights that `rule` gives at step k. At its first step
    an objective has w = v. Where an objective is absent or new, w_(k-1) of the others is scaled to the sum of
    their v_k, and an average that stays away is kept.

    When to use: small batches. With weights found from one batch alone the stochastic rules may fail to
    converge to a Pareto point, as the paper shows. When not: each step must be free of conflict.

    rule: any GramianRule; MGDA by default. It sees what it would see alone (stacks, losses, preference,
        names, rows behind its own transforms), and its state moves with this rule's.
    alpha: in [0, 1], 0.9 as in TorchJD; the attribute may be set between steps. The paper lets it grow
        towards 1 as the learning rate falls: alpha = 1 - lr / lr_at_first.
    gramian: (m, m), or a stack where the rule takes one. Returns (m,).

    Averages are kept by name, and for each group of parameters where `backward` is given groups; they move in
    `update`. The guarantees on the card are those around MGDA. Raises TypeError for what is no GramianRule
    and ValueError for an alpha outside [0, 1]. Source: Zhou et al. 2022, the scheme CR-MOGM.

    >>> CRMOGM(MGDA(), alpha=0.5)(torch.tensor([[4.0, -2.0], [-2.0, 2.0]]))
    tensor([0.4000, 0.6000], dtype=torch.float64)
    """

    average: Tensor

    def __init__(self, rule: GramianRule | None = None, *, alpha: float = 0.9) -> None:
        super().__init__()
        rule = MGDA() if rule is None else rule
        if not isinstance(rule, GramianRule):
            raise TypeError(f"{rule!r} is no GramianRule, so it has no weights that could be averaged")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha is {alpha}; it lies between 0 and 1")
        self.rule, self.alpha = rule, alpha
        self.needs_directions, self.batched, self.crosses = rule.needs_directions, rule.batched, rule.crosses
        self.keep("average", 0.0)
        self.keep("seen", 0.0)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"

    def stages(self) -> tuple[RowTransform, ...]:
        return self.rule.stages()

    def objective_of(self, name: str) -> str:
        return self.rule.objective_of(name)

    def uses(self, argument: str) -> bool:
        return argument in ("names", "groups") or self.rule.uses(argument)

    def forward(
        self,
        gramian: Tensor,
        *,
        losses: Tensor | None = None,
        preference: Tensor | None = None,
        names: Sequence[str] | None = None,
        groups: Sequence[str] = (),
    ) -> Tensor:  # (m, m), (m,), (m,) -> (m,), or (g, m, m) -> (g, m)
        names = numbered(names, gramian.shape[-1])
        found = self.rule.apply_to(gramian, losses=losses, preference=preference, names=names, groups=groups)
        if found.ndim == 1:
            return self._blended(found, names, "".join(groups))
        each = zip(found, groups or [""] * len(found), strict=True)
        return torch.stack([self._blended(one, names, group) for one, group in each])

    def _blended(self, found: Tensor, names: Sequence[str], group: str) -> Tensor:  # (m,) -> (m,)
        kept = within(group, names)
        seen, before = self.read("seen", kept).to(found) > 0, self.read("average", kept).to(found)
        old, new = before[seen].sum(), found[seen].sum()
        if (self._absent(kept, group) or not bool(seen.all())) and old > 0 and new > 0:
            before = before * (new / old)
        return torch.lerp(found, torch.where(seen, before, found), self.alpha)

    def _absent(self, kept: Sequence[str], group: str) -> list[str]:
        """The names with an average on this group that are not among those of a step."""
        known = self.objectives if not group else [n for n in self.objectives if n.endswith(f" in {group}")]
        return [name for name in known if name not in kept]

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        names, _ = self.observed(step)
        places = [step.names.index(name) for name in names]
        for group, part in step.parts().items() if names else ():
            kept, weights = within(group, names), part.weights[places]
            absent = self._absent(kept, group)
            if absent:
                weights = self._in_their_part(weights, kept, absent)
            self.write("average", kept, weights)
            self.write("seen", kept, torch.ones(len(names)))
        self.rule.update(step, losses, epoch_ended)

    def _in_their_part(self, weights: Tensor, kept: Sequence[str], absent: Sequence[str]) -> Tensor:
        """Weights scaled to what those present had of the averages of all; a new one adds a mean average.

        The sum of all averages stays: for those that are new the absent ones make room.
        """
        seen, before = self.read("seen", kept).to(weights) > 0, self.read("average", kept).to(weights)
        others = self.read("average", absent).to(weights)
        total, count = before[seen].sum() + others.sum(), int(seen.sum()) + len(absent)
        room = count / (count + len(kept) - int(seen.sum()))
        part = room * torch.where(seen, before, total / count).sum()
        if not (weights.sum() > 0 and part > 0):
            return weights
        self.write("average", absent, room * others)
        return weights / weights.sum() * part
