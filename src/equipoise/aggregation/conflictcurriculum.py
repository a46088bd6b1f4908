"""ConflictCurriculum: samples and batches whose directions conflict most have to wait."""

import torch
from torch import Tensor, nn

from equipoise.core.bundle import raise_unless_finite
from equipoise.core.card import Card
from equipoise.core.keyed import numbered
from equipoise.core.step import Step

CARD = Card(
    name="ConflictCurriculum",
    shape="system",
    summary="Postpones the samples or batches whose directions conflict more than a moving threshold allows.",
    formula="keep where min over i < j of cos(g_i, g_j) >= gamma_t; gamma_t from start to end, linearly",
    title="Scaling Multimodal Pre-Training via Cross-Modality Gradient Harmonization",
    authors=("Junru Wu", "Yi Liang", "Feng Han", "Hassan Akbari", "Zhangyang Wang", "Cong Yu"),
    venue="NeurIPS",
    year=2022,
    arxiv="2211.02077",
    guarantees=("PERMUTATION", "STATEFUL"),
    single="everything is kept",
    cost="a Gramian that is there already",
    use="noisy pairs, such as video and text crawled from the web, of which some do not belong together",
    avoid="objectives that conflict by nature: the hard samples are then the first to go",
    status="experimental",
    evidence="harmonisation",
)


class ConflictCurriculum(nn.Module):
    """Says which samples, or whether a batch, may train now: those whose directions conflict little enough.

    A Gramian is kept where the least cosine between two of its directions is gamma_t or more. gamma_t moves
    in equal steps from `start` to `end` over `steps` calls of `update`, and stays there. The paper takes the
    cosine between the gradients of two contrastive losses on one sample for a sign of how well its
    modalities belong together.

        keep = curriculum(gramians)                       # (n, m, m) -> (n,)
        losses[keep].mean().backward()
        curriculum.update(gramians)

    or, where `step = equipoise.backward(losses, rule)` says how a whole batch conflicts,

        if curriculum(step):
            optimizer.step()
        curriculum.update(step)

    When to use: supervision that is wrong for some samples. When not: conflict is in the nature of the
    objectives. What is postponed may be offered again; nothing here remembers it.

    start, end: cosines, -1 to 1. The rise from -0.3 to 0 is our reading: first all but the worst is kept, in
    the end nothing in conflict. end < start lets the conflicting ones in later.
    steps: how many updates the way takes, at least 1.

    A step in which a GradScaler's factor was too large is kept, for the scaler to skip, and not counted. A
    direction of zero conflicts with nothing; with fewer than two directions everything is kept. The state
    (steps taken, how many were seen and postponed) is in `state_dict`. Raises ValueError for options out of
    range and for a Step without a Gramian, NonFiniteDirection for directions that are not finite.

    Source: Wu et al. 2022, gradient-based curriculum learning.

    >>> curriculum = ConflictCurriculum(steps=10)
    >>> curriculum(torch.tensor([[[4.0, -2.0], [-2.0, 2.0]], [[1.0, 0.5], [0.5, 1.0]]]))
    tensor([False,  True])
    """

    taken: Tensor
    seen: Tensor
    postponed: Tensor

    def __init__(self, *, start: float = -0.3, end: float = 0.0, steps: int = 1000) -> None:
        super().__init__()
        for name, value in (("start", start), ("end", end)):
            if not -1 <= value <= 1:
                raise ValueError(f"{name} is {value}; a cosine lies between -1 and 1")
        if steps < 1:
            raise ValueError(f"steps is {steps}; the threshold needs at least one step to arrive")
        self.start, self.end, self.steps = start, end, steps
        for name in ("taken", "seen", "postponed"):
            self.register_buffer(name, torch.zeros((), dtype=torch.long))

    def extra_repr(self) -> str:
        return f"start={self.start}, end={self.end}, steps={self.steps}"

    @property
    def threshold(self) -> float:
        """gamma_t, the least cosine that is kept now."""
        return self.start + (self.end - self.start) * min(int(self.taken) / self.steps, 1.0)

    @property
    def share(self) -> float:
        """The part of all samples or batches so far that was postponed; 0 before the first."""
        return int(self.postponed) / max(int(self.seen), 1)

    def forward(self, subject: Step | Tensor) -> Tensor:  # (..., m, m) -> (...)
        """Which Gramians of a stack are kept, or whether one is, or the batch of a Step; True is kept."""
        if _overflowed(subject):
            return torch.tensor(True)
        return least_cosine(subject) >= self.threshold

    def update(self, subject: Step | Tensor) -> None:
        """Count what was kept and postponed, and move the threshold, once for each step of training."""
        if _overflowed(subject):
            return
        kept = self(subject)
        self.seen += kept.numel()
        self.postponed += kept.numel() - int(kept.sum())
        self.taken += 1


def _overflowed(subject: Step | Tensor) -> bool:
    return isinstance(subject, Step) and subject.overflowed


def least_cosine(subject: Step | Tensor) -> Tensor:  # (..., m, m) -> (...)
    """The least cosine between two directions, 1 where there are not two; of a Step those that it used."""
    gramian, names = _gramian(subject)
    if gramian.ndim < 2 or gramian.shape[-1] != gramian.shape[-2]:
        raise ValueError(f"a Gramian is (..., m, m), got {tuple(gramian.shape)}")
    m = gramian.shape[-1]
    if m < 2:
        return gramian.new_ones(gramian.shape[:-2])
    raise_unless_finite(gramian.reshape(-1, m, m).sum(0), names)
    lengths = gramian.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    both = lengths[..., None] * lengths[..., None, :]
    cosines = torch.where(both > 0, gramian / both, 0.0).clamp(-1, 1)
    first, second = torch.triu_indices(m, m, 1)
    least = cosines[..., first, second].amin(-1)
    if bool(least.isnan().any()):
        raise ValueError("an inner product of two directions is not a number; leave this batch out")
    return least


def _gramian(subject: Step | Tensor) -> tuple[Tensor, tuple[str, ...]]:
    if isinstance(subject, Tensor):
        return subject.double(), numbered(None, subject.shape[-1] if subject.ndim else 0)
    if subject.gramian is None:
        raise ValueError(
            "this step has no Gramian, which only a rule that needs the directions computes; "
            "give the curriculum a Gramian, such as Bundle.gramian()"
        )
    used = [i for i, name in enumerate(subject.names) if name not in subject.skipped]
    return subject.gramian[used][:, used], tuple(subject.names[i] for i in used)
