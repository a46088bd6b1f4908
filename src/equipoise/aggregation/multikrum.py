"""MultiKrum: the mean of the directions that lie closest to most of the others."""

from torch import Tensor

from equipoise.aggregation.krum import checked, closest, suspects
from equipoise.core.card import Card
from equipoise.core.rule import GramianRule

CARD = Card(
    name="MultiKrum",
    shape="gramian",
    summary="Averages the directions with the nearest neighbours and leaves out the others.",
    formula="w_i = 1/q on the q least sums of |g_i - g_j|^2 over the m - f - 2 nearest g_j",
    title="Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
    authors=("Peva Blanchard", "El Mahdi El Mhamdi", "Rachid Guerraoui", "Julien Stainer"),
    venue="NeurIPS",
    year=2017,
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)", "SIMPLEX", "NON_NEGATIVE"),
    single="the direction itself",
    cost="the Gramian and a sort of its rows, O(m^2 log m)",
    use="many directions of one kind, of which a minority may be anything, without Krum's waste",
    avoid="objectives that differ by nature: those that stand apart are ignored",
    status="main",
)


class MultiKrum(GramianRule):
    """Averages the directions that a crowd of others agrees with, so that liars are not followed.

    Scores are Krum's: the sum of squared distances to the m - f - 2 nearest others, with f = `byzantine`.
    The q = `selected` least scores share the weight.

    Use it as Krum, where noise matters too: it averages q directions where Krum keeps one. Avoid it for
    objectives that differ by nature.

    byzantine: f, 0 or more; by default the most that 2 f + 2 < m allows, (m - 3) // 2, beyond which the
        paper promises no protection.
    selected: q, 1 or more; by default m - f, as in ByzFL (others take m - f - 2). One is Krum.
    gramian: (m, m). Returns (m,). Scores that are level at the end of the selection share what is left of
        it. Up to four directions the default is their mean.

    Raises ValueError for a negative f or a q below 1, and where f + 3 or q directions are not there.

    Source: Blanchard et al. 2017, section 4 and the experiments (Multi-Krum).

    >>> import torch
    >>> points = torch.tensor([[0.0], [1.0], [2.0], [3.0], [100.0]], dtype=torch.float64)
    >>> MultiKrum()(points @ points.T).tolist()
    [0.25, 0.25, 0.25, 0.25, 0.0]
    """

    def __init__(self, *, byzantine: int | None = None, selected: int | None = None) -> None:
        super().__init__()
        if selected is not None and selected < 1:
            raise ValueError(f"selected is {selected}; one direction or more is averaged")
        self.byzantine = checked(byzantine)
        self.selected = selected

    def extra_repr(self) -> str:
        return f"byzantine={self.byzantine}, selected={self.selected}"

    def forward(self, gramian: Tensor) -> Tensor:  # (m, m) -> (m,)
        m = len(gramian)
        byzantine = suspects(self.byzantine, m)
        count = m - byzantine if self.selected is None else self.selected
        if count > m:
            raise ValueError(f"selected={count} directions are to be averaged, but there are {m}")
        return closest(gramian, byzantine, count)
