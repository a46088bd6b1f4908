"""ExcessMTL: weight goes to the objectives that are furthest from where they can get to."""

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.gramian import wide
from equipoise.core.keyed import Keyed, numbered, within
from equipoise.core.rule import GramianRule, LossesAfter, RowTransform
from equipoise.core.step import Step

CARD = Card(
    name="ExcessMTL",
    shape="gramian",
    summary="Gives more weight to objectives that are far from convergence, by an estimate of what is left.",
    formula="E_i = sum g_i^2 / sqrt(sum over steps of g_i^2); w_i <- w_i exp(eta E_i / E_i(0)) / Z",
    title="Robust Multi-Task Learning with Excess Risks",
    authors=(
        "Yifei He",
        "Shiji Zhou",
        "Guojun Zhang",
        "Hyokun Yun",
        "Yi Xu",
        "Belinda Zeng",
        "Trishul Chilimbi",
        "Han Zhao",
    ),
    venue="ICML",
    year=2024,
    arxiv="2402.02009",
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)", "SIMPLEX", "NON_NEGATIVE", "STATEFUL"),
    single="the direction itself",
    cost="m more copies of the parameters; the rows of every parameter are formed; no quadratic program",
    use="some labels are noisy, so that a large loss does not mean that much can be learned",
    avoid="memory is short, or no objective may be hurt: nothing here looks at inner products",
    status="main",
)


class ExcessMTL(Keyed, GramianRule):
    """Favours the objectives that have most left to learn, not those whose loss is large.

    The excess risk of objective i is estimated by E_i = sum of g_i^2 / h_i over the coordinates, with h_i the
    root of the sum of g_i^2 over all steps, this one included. The weights, equal at first, become
    w_i exp(eta r_i) / Z with r_i = E_i over its mean in the first `warmup` steps; there r_i = 1.

    When to use: noise in the labels of some objectives. When not: no objective may be hurt.

    eta: positive; 0.01, as in the authors' code and LibMTL. TorchJD takes 1.
    warmup: steps that give each objective its scale, 1 or more; the paper takes three epochs of them, the
        authors' code 1.
    gramian: (m, m) of the rows over the root of h, which `stages` gives to the engine: E is its diagonal.
        Returns (m,), which combine the rows as they came.

    Estimates are kept by name and move in `update`. An objective that is absent keeps its part of the weight
    of all, and one never seen starts with the mean part. A zero direction gets no scale. Raises
    ValueError for an eta that is not positive and a warmup below 1. Source: He et al. 2024, equations 6, 7
    and 9, appendix C.1.

    >>> ExcessMTL()(torch.tensor([[4.0, -2.0], [-2.0, 2.0]]))
    tensor([0.5000, 0.5000], dtype=torch.float64)
    """

    def __init__(self, *, eta: float = 0.01, warmup: int = 1) -> None:
        super().__init__()
        if not eta > 0:
            raise ValueError(f"eta is {eta}; it must be positive")
        if warmup < 1:
            raise ValueError(f"warmup is {warmup}; it counts steps, 1 or more")
        self.eta, self.warmup = eta, warmup
        self.curvature = Curvature()
        for key in ("logits", "scale", "count"):
            self.keep(key, 0.0)

    def extra_repr(self) -> str:
        return f"eta={self.eta}, warmup={self.warmup}"

    def stages(self) -> tuple[RowTransform, ...]:
        return (self.curvature,)

    def forward(
        self, gramian: Tensor, *, names: Sequence[str] | None = None, groups: Sequence[str] = ()
    ) -> Tensor:  # (m, m) -> (m,)
        kept = within("".join(groups), numbered(names, len(gramian)))
        return self._moved(gramian.diagonal().double(), kept).softmax(0)

    def _moved(self, excess: Tensor, names: Sequence[str]) -> Tensor:  # (m,) -> (m,)
        """The logits after a step, at which those present have together the weight that they had."""
        count, scale, logits = (self.read(key, names).to(excess) for key in ("count", "scale", "logits"))
        moved = logits + self.eta * torch.where(count >= self.warmup, excess / scale, 1.0)
        return moved - moved.logsumexp(0) + logits.logsumexp(0)

    def update(self, step: Step, losses: LossesAfter = None, epoch_ended: bool = False) -> None:
        names, _ = self.observed(step)
        places = [step.names.index(name) for name in names]
        for group, part in step.parts().items() if names else ():
            kept, excess = within(group, names), part.gramian.diagonal()[places]
            self.write("logits", kept, self._moved(excess, kept))
            count, scale = self.read("count", kept).to(excess), self.read("scale", kept).to(excess)
            warming = (count < self.warmup) & (excess > 0)
            self.write("scale", kept, torch.where(warming, scale + (excess - scale) / (count + 1), scale))
            self.write("count", kept, count + warming)
        self.curvature.update(step, losses, epoch_ended)


class Curvature(RowTransform):
    """Rows over the fourth root of the sum of their squares over all steps, coordinate by coordinate."""

    measures = True

    def forward(self, rows: Tensor, *, block: str = "", names: Sequence[str] = ()) -> Tensor:  # -> (m, k)
        names = numbered(names or None, len(rows))
        lengths = rows.to(wide(rows.dtype)).abs()
        for i, old in enumerate(self.known(block, names, lengths.shape[1])):
            lengths[i] = lengths[i] if old is None else torch.hypot(lengths[i], old.to(lengths))
        lengths = self.becomes(block, names, lengths)
        return torch.where(lengths > 0, rows / lengths.sqrt(), 0.0).to(rows.dtype)
