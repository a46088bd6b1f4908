"""GradientNorm: objectives with long gradients more often, and the mean kept."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equipoise.aggregation.importancesampling import ImportanceSampling
from equipoise.core.card import Card
from equipoise.scaling.runs import Array
from equipoise.scaling.schedule import Schedule

CARD = Card(
    name="GradientNorm",
    shape="schedule",
    summary="Draws objectives with long gradients more often; factors keep the mean of all.",
    formula="p_i = t |g_i| / sum_j |g_j| + (1 - t) / m; the loss of i counts 1 / (m p_i)",
    title="PA&DA: Jointly Sampling PAth and DAta for Consistent NAS",
    authors=("Shun Lu", "Yu Hu", "Longxing Yang", "Zihao Sun", "Jilin Mei", "Jianchao Tan", "Chengru Song"),
    venue="CVPR",
    year=2023,
    arxiv="2302.14772",
    single="ratio 1",
    cost="a number for each objective",
    use="one objective a step, and gradients of very unlike lengths",
    avoid="to give an objective more say: factors take back what ratios give",
    status="main",
    evidence="sampling",
)


class GradientNorm(Schedule):
    """`ImportanceSampling` as a schedule: ratios by the lengths of gradients, factors 1 / (m p_i) beside.

    trust: how far ratios follow the lengths, 0 not at all, 1 alone. Raises ValueError for a trust outside
    [0, 1].
    """

    def __init__(self, names, *, trust: float = 0.9) -> None:
        super().__init__(names)
        if not 0 <= trust <= 1:
            raise ValueError(f"trust is {trust}; it is in [0, 1]")
        self.trust = trust
        self._held = ImportanceSampling(self.names)

    def ratios(self, step: int, steps: int | None = None) -> Array:
        return self._held.probabilities.numpy().copy()

    def factors(self, p: Array) -> Array:
        return np.where(p > 0, 1 / (len(p) * np.maximum(p, 1e-300)), 0.0)

    def observe(self, lengths: Mapping[str, float] | Tensor) -> None:
        """Note lengths |g_i| by name, or the Gramian (m, m), whose diagonal has their squares.

        Raises ValueError for a name that there is not, a length that is negative or not finite, and a
        Gramian of another size.
        """
        if isinstance(lengths, Tensor):
            if lengths.shape != (len(self.names),) * 2:
                raise ValueError(
                    f"the Gramian is {tuple(lengths.shape)}, and there are {len(self.names)} objectives"
                )
            lengths = dict(
                zip(self.names, lengths.detach().diagonal().clamp(min=0).sqrt().tolist(), strict=True)
            )
        self._held.observe(list(lengths), torch.tensor([float(found) for found in lengths.values()]))
        self._held.refresh(self.trust)

    def state_dict(self) -> dict[str, Any]:
        return {"lengths": [float(x) for x in self._held.lengths], "p": self._held.probabilities.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._held.lengths.copy_(torch.tensor(state["lengths"], dtype=torch.float64))
        self._held.probabilities.copy_(torch.tensor(state["p"], dtype=torch.float64))
