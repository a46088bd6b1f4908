"""GEM: learn the new task without hurting any of the past ones."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.keyed import numbered
from equipoise.core.nonnegative import nonnegative
from equipoise.core.primary import Primary
from equipoise.core.rule import GramianRule
from equipoise.core.scaled import as_array, scaled

CARD = Card(
    name="GEM",
    shape="gramian",
    summary="The primary direction, moved as little as possible until it hurts none of the others.",
    formula="g + sum_k v_k g_k, v = argmin over v >= gamma of |g + sum_k v_k g_k|^2",
    title="Gradient Episodic Memory for Continual Learning",
    authors=("David Lopez-Paz", "Marc'Aurelio Ranzato"),
    venue="NeurIPS",
    year=2017,
    arxiv="1706.08840",
    guarantees=("HOMOGENEOUS(1)", "NON_NEGATIVE", "STATEFUL"),
    single="the direction itself",
    cost="the Gramian and one quadratic program of size m - 1",
    use="continual learning with a small memory of each past task, none of which may get worse",
    avoid="very many past tasks: each needs a backward pass; AGEM takes their mean",
    status="main",
    evidence="orthogonal_update",
)

ROUNDING = 1e-12  # cosines above minus this are no conflict


class GEM(Primary, GramianRule):
    """Follows the primary objective, the task at hand, as far as it hurts none of the others, the memory.

    Where g, the direction of `primary`, conflicts with no other direction g_k, d = g. Else
    d = g + sum_k v_k g_k with v = argmin_{v >= gamma} |g + sum_k v_k g_k|^2. With gamma = `margin` = 0 this
    is the projection of g on {d : <g_k, d> >= 0 for all k}, and equals DualProj with all of the preference on
    the primary objective, since the projection never opposes g itself. In general it is the projection of
    g + gamma sum_k g_k: a margin favours the past at the cost of the task at hand, which may be hurt.

    When to use: continual learning, with one loss for the memory of each past task.
    When not: many past tasks (AGEM).

    primary: the name of the task at hand; by default the first of the first step, which `update`
        remembers. Where it is absent from a batch nothing moves.
    objectives: all names, where the first batches may lack the primary one.
    margin: gamma, not negative. 0.5 as in the authors' code and runs, where it bounds v from below; the
        paper's text adds it to the solution.
    gramian: (m, m). Returns (m,), one for the primary objective. Solved exactly; zero rows do no harm.

    Raises ValueError for a negative margin, and for a primary that no step had so far.

    Source: Lopez-Paz & Ranzato 2017, equation 11; the authors' code, `project2cone2`.

    >>> GEM()(torch.tensor([[4.0, -2.0], [-2.0, 2.0]]))
    tensor([1., 1.], dtype=torch.float64)
    """

    def __init__(
        self, *, primary: str | None = None, margin: float = 0.5, objectives: Iterable[str] | None = None
    ) -> None:
        super().__init__(primary=primary, objectives=objectives)
        if not margin >= 0:
            raise ValueError(f"margin must be 0 or more, got {margin}")
        self.margin = margin

    def extra_repr(self) -> str:
        return f"primary={self.primary!r}, margin={self.margin}"

    def forward(self, gramian: Tensor, *, names: Sequence[str] | None = None) -> Tensor:  # (m, m) -> (m,)
        m = len(gramian)
        place = self.place(numbered(names, m))
        if place is None:
            return torch.zeros(m, dtype=torch.float64)
        unit = scaled(as_array(gramian)[None])
        cosines, norms = unit.cosines[0], unit.norms[0]
        others = np.delete(np.arange(m), place)
        weights = np.zeros(m)
        weights[place] = 1.0
        if norms[place] > 0 and (cosines[place, others] < -ROUNDING).any():
            weights[others] = self.margin
            lengths = weights * norms
            size = lengths.max()
            linear = cosines[others] @ (lengths / size)
            raised = nonnegative(cosines[None, others][:, :, others], linear[None, None], unit.floor)[0, 0]
            present = norms[others] > 0
            weights[others] += np.divide(raised * size, norms[others], out=np.zeros(m - 1), where=present)
        return torch.from_numpy(weights)
