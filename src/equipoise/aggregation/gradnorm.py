"""GradNorm: weights under which every objective trains at the same rate."""

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.keyed import Keyed, numbered, within
from equipoise.core.rule import GramianRule, LossesAfter
from equipoise.core.step import Step

CARD = Card(
    name="GradNorm",
    shape="gramian",
    summary="Moves the weights until the weighted directions are as long as the objectives' progress asks.",
    formula="descend on sum_i |w_i n_i - mean(w n) r_i^alpha| by w, r_i = f_i/f_i(0) over its mean",
    title="GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks",
    authors=("Zhao Chen", "Vijay Badrinarayanan", "Chen-Yu Lee", "Andrew Rabinovich"),
    venue="ICML",
    year=2018,
    arxiv="1711.02257",
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)", "NON_NEGATIVE", "STATEFUL"),
    single="the direction itself",
    cost="the squared lengths of the directions; O(m)",
    use="objectives on different scales of which some train faster than others",
    avoid="directions that conflict: their lengths alone are looked at",
    status="main",
)


class GradNorm(Keyed, GramianRule):
    """Lengthens the directions of the objectives that lag behind and shortens those of the others.

    With n_i the lengths of the directions, r_i = (f_i / f_i(0)) over its mean and targets t_i = s r_i^alpha
    with s = mean(w n), both held fixed, `update` takes one step of descent on sum_i |w_i n_i - t_i| / s by w,
    cuts w at zero and scales it to the sum m. `forward` gives the weights as they stand, at first 1 each,
    scaled to the sum m over those present; what these have of the weight of all is kept.

    When to use: objectives train at different speeds. When not: the trouble is conflict, not size.

    alpha: how strongly slow objectives are pulled, 0 or more; 1.5 as in the paper.
    step_size: of the step of descent, positive; 0.025, which a reimplementation gives as the paper's.
    gramian: (m, m), of which the diagonal counts. losses: (m,), not negative. Returns (m,). The paper trains
        heads on w_i f_i too: `backward(..., private="weighted")`; by default they follow f_i.

    The paper leaves out the division by s, which makes the step free of the scale of the gradients,
    and looks at the last shared layer alone (here at whatever the Gramian is of). f_i(0) is the first loss
    seen; where that is zero, the ratio is 1. Raises ValueError naming an objective with a negative loss, for
    a negative alpha and for a step that is not positive. Source: Chen et al. 2018, equations 1 and 2,
    algorithm 1.

    >>> GradNorm()(torch.tensor([[4.0, -2.0], [-2.0, 2.0]]))
    tensor([1., 1.], dtype=torch.float64)
    """

    def __init__(self, *, alpha: float = 1.5, step_size: float = 0.025) -> None:
        super().__init__()
        if not alpha >= 0:
            raise ValueError(f"alpha is {alpha}; it is 0 or more")
        if not step_size > 0:
            raise ValueError(f"step_size is {step_size}; it must be positive")
        self.alpha, self.step_size = alpha, step_size
        self.keep("weights", 1.0)
        self.keep("initial", 0.0)
        self.keep("seen", 0.0)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, step_size={self.step_size}"

    def forward(
        self,
        gramian: Tensor,
        *,
        losses: Tensor | None = None,
        names: Sequence[str] | None = None,
        groups: Sequence[str] = (),
    ) -> Tensor:  # (m, m), (m,) -> (m,)
        names = numbered(names, len(gramian))
        bad = [] if losses is None else [n for n, x in zip(names, losses.tolist(), strict=True) if x < 0]
        if bad:
            raise ValueError(f"GradNorm compares losses by ratios; negative are those of {', '.join(bad)}")
        return self._weights(within("".join(groups), names))

    def _weights(self, names: Sequence[str]) -> Tensor:  # -> (m,), sum m
        return _to_mean_one(self.read("weights", names).cpu())

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        names, now = self.observed(step)
        if not names or not (parts := step.parts()):
            return
        seen, first = self.read("seen", names).to(now) > 0, self.read("initial", names).to(now)
        first = torch.where(seen, first, now)
        self.write("initial", names, first)
        self.write("seen", names, torch.ones(len(names)))
        ratio = torch.where(first > 0, now / first, 1.0)
        mean = ratio.mean()
        pull = (ratio / mean if mean > 0 else torch.ones_like(ratio)) ** self.alpha
        places = [step.names.index(name) for name in names]
        for group, part in parts.items():
            lengths = part.gramian.diagonal()[places].clamp(min=0).sqrt()
            kept = within(group, names)
            moved = self._moved(self._weights(kept), lengths, pull)
            self.write("weights", kept, moved * float(self.read("weights", kept).mean()))

    def _moved(self, weights: Tensor, lengths: Tensor, pull: Tensor) -> Tensor:  # (m,), (m,), (m,) -> (m,)
        mean = (weights * lengths).mean()
        if not mean > 0:
            return weights
        slope = (weights * lengths / mean - pull).sign() * lengths / mean
        return _to_mean_one((weights - self.step_size * slope).clamp(min=0))


def _to_mean_one(weights: Tensor) -> Tensor:  # (m,) -> (m,)
    mean = weights.mean()
    return weights / mean if mean > 0 else torch.ones_like(weights)
