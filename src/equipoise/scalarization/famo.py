"""FAMO: every loss is to fall at the same relative rate, at the cost of one backward pass."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.keyed import Keyed, by_name, numbered
from equipoise.core.rule import LossesAfter, Scalarizer
from equipoise.core.step import Step

CARD = Card(
    name="FAMO",
    shape="scalarizer",
    summary="Learns weights under which every loss falls at the same relative rate.",
    formula="c sum_i z_i log(f_i - b_i), z = softmax(xi), c = 1 / sum_i z_i / (f_i - b_i)",
    title="FAMO: Fast Adaptive Multitask Optimization",
    authors=("Bo Liu", "Yihao Feng", "Peter Stone", "Qiang Liu"),
    venue="NeurIPS",
    year=2023,
    arxiv="2306.03792",
    guarantees=(
        "PERMUTATION",
        "HOMOGENEOUS(1)",
        "SIMPLEX",
        "NON_NEGATIVE",
        "LOSS_SCALE_INVARIANT",
        "STATEFUL",
    ),
    single="the direction itself",
    cost="one backward pass, and one more forward pass for the losses after the step",
    use="for many objectives with positive losses, where m backward passes are too dear",
    avoid="for losses that reach their lower bound: the smallest takes all the weight",
    status="main",
)

FLOOR = 1e-8  # relative to the largest gap of the batch
BETAS = (0.9, 0.999)
EPSILON = 1e-8


class FAMO(Keyed, Scalarizer):
    """Weights under which every loss falls at the same relative rate, learned from one step to the next.

    c sum_i z_i log(f_i - b_i) with f `losses`, b `lower_bound` (one number, or one for each objective by
    name), z = softmax of the logits xi, and c such that the weights z_i / (f_i - b_i) c sum to 1.
    `update` compares the losses before and after the step and moves xi by one step of Adam (learning
    rate `step_size`, weight decay `decay`) away from the objectives that fell most.

    Use it for many positive losses in place of rules that need m gradients. Not for losses that reach b.

    A gap f_i - b_i below 1e-8 of the largest counts as that (the official code adds 1e-8), all gaps zero
    count as equal; z runs over the objectives present. Raises ValueError naming a loss below b, and in
    `update` without losses. Source: Liu et al. 2023, algorithm 1; defaults of the stand-alone famo.py of
    its authors (the paper decays by 0.01 on CityScapes and by 0.001 elsewhere).

    >>> losses = torch.tensor([1.0, 4.0], requires_grad=True)
    >>> torch.autograd.grad(FAMO()(losses), losses)
    (tensor([0.8000, 0.2000]),)
    """

    logits: Tensor
    first_moment: Tensor
    second_moment: Tensor
    count: Tensor

    needs_losses_after = True

    def __init__(
        self,
        *,
        step_size: float = 0.025,
        decay: float = 0.01,
        lower_bound: float | Mapping[str, float] = 0.0,
        objectives: Iterable[str] | None = None,
    ) -> None:
        super().__init__(objectives=objectives)
        self.step_size = step_size
        self.decay = decay
        self.lower_bound = lower_bound
        for key in ("logits", "first_moment", "second_moment", "count"):
            self.keep(key, 0.0)

    def forward(self, losses: Tensor, *, names: Sequence[str] | None = None) -> Tensor:  # (m,) -> ()
        names = numbered(names, losses.numel())
        gaps = _gaps(losses, by_name(self.lower_bound, names).to(losses), names)
        shares = self.read("logits", names).softmax(0).to(losses)
        return (shares * gaps.log()).sum() / (shares / gaps.detach()).sum()

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        if losses is None:
            raise ValueError(
                "FAMO compares the losses before and after the optimizer step: call "
                "rule.update(step, losses=lambda: ...) with a function that computes them again by name"
            )
        with torch.no_grad():
            after = losses() if callable(losses) else losses
        names, before = self.observed(step)
        kept = [i for i, name in enumerate(names) if name in after and bool(after[name].isfinite())]
        names, before = tuple(names[i] for i in kept), before[kept]
        if names:
            now = torch.stack([after[name].detach().to(before).reshape(()) for name in names])
            bound = by_name(self.lower_bound, names)
            self._descend(names, _gaps(before, bound, names).log() - _gaps(now, bound, names).log())

    def _descend(self, names: Sequence[str], fallen: Tensor) -> None:  # fallen (m,)
        """One step of Adam along the gradient of softmax(logits) . fallen."""
        logits = self.read("logits", names)
        shares = logits.softmax(0)
        fallen = fallen.to(logits)
        gradient = shares * (fallen - (shares * fallen).sum()) + self.decay * logits
        count = self.read("count", names) + 1
        first = self.read("first_moment", names).lerp(gradient, 1 - BETAS[0])
        second = self.read("second_moment", names).lerp(gradient.square(), 1 - BETAS[1])
        length = (second / (1 - BETAS[1] ** count)).sqrt() + EPSILON
        self.write("count", names, count)
        self.write("first_moment", names, first)
        self.write("second_moment", names, second)
        self.write("logits", names, logits - self.step_size * first / (1 - BETAS[0] ** count) / length)


def _gaps(losses: Tensor, bound: Tensor, names: Sequence[str]) -> Tensor:  # (m,), (m,) -> (m,)
    """Losses above their bounds, lifted to the floor without a kink in the derivative."""
    gaps = losses - bound
    plain = gaps.detach()
    if bool((plain < 0).any()):
        pairs = zip(names, losses.tolist(), plain.tolist(), strict=True)
        bad = ", ".join(f"{name!r} = {value:g}" for name, value, gap in pairs if gap < 0)
        raise ValueError(f"FAMO needs losses above lower_bound, not {bad}; lower the bound")
    floor = FLOOR * plain.amax() if bool((plain > 0).any()) else plain.new_ones(())
    return gaps + (floor - plain).clamp(min=0)
