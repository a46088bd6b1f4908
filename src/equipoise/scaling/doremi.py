"""DoReMi: more of what a small model has yet to learn from a reference."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.checks import check_positive, check_share
from equipoise.scaling.runs import Array
from equipoise.scaling.schedule import Schedule, uniform

CARD = Card(
    name="DoReMi",
    shape="schedule",
    summary="Weights grow where a proxy model's loss is most above that of a reference.",
    formula="w <- (1 - eps) w exp(eta max(excess, 0)) / sum + eps / m; the answer is the mean of w",
    title="DoReMi: Optimizing Data Mixtures Speeds Up Language Model Pretraining",
    authors=(
        "Sang Michael Xie",
        "Hieu Pham",
        "Xuanyi Dong",
        "Nan Du",
        "Hanxiao Liu",
        "Yifeng Lu",
        "Percy Liang",
        "Quoc V. Le",
        "Tengyu Ma",
        "Adams Wei Yu",
    ),
    venue="NeurIPS",
    year=2023,
    arxiv="2305.10429",
    single="weight 1",
    cost="a reference model's loss of every token, and m numbers",
    use="a reference model of the same size is at hand, and no losses of small runs are",
    avoid="sources with noise that no model learns; losses of small runs say more, see `compare`",
    status="main",
    evidence="doremi_doge",
)


class DoReMi(Schedule):
    """Weights that rise with the excess of the proxy's loss over the reference's, one mirror step at a time.

    The proxy is trained on batches of equal parts of the sources, under the weights:
    `ObjectiveSampler(DoReMi(names), mode="weight")`. After each step `observe` is told the losses. What to
    train the large model on is the sampler's `average`, the mean of the weights over the steps, and not the
    last weights; `health` says whether it has settled.

    eta: the step. eps: how much of the weights is equal, whatever the losses. first: the weights to begin
    with, equal by default. Raises ValueError for an eta that is not above 0 and an eps outside [0, 1).

    Source: Xie et al. 2023, algorithm 1, eta = 1 and eps = 1e-4 of the authors' code.
    """

    def __init__(
        self,
        names,
        *,
        eta: float = 1.0,
        eps: float = 1e-4,
        first: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(names)
        check_positive(eta=eta)
        check_share(eps=eps)
        self.eta, self.eps = eta, eps
        w = uniform(self.names) if first is None else self._row("first", first)
        if not ((w > 0).all() or first is None):
            raise ValueError(f"first is {dict(first or {})}; a weight of 0 stays 0 for ever")
        self.w = w / w.sum()

    def ratios(self, step: int, steps: int | None = None) -> Array:
        return self.w

    def observe(self, excess: Mapping[str, Tensor | float]) -> None:
        """Take a step by the excess losses, the proxy's less the reference's.

        excess: {name: (tokens,)} of each source's tokens, cut off at 0 token by token before the mean, as in
        the paper; a number is taken to be such a mean. A source that the batch did not have is left out and
        its excess taken as 0. Raises ValueError for a name that there is not and what is not finite.
        """
        scores = np.zeros(len(self.names))
        for name, found in excess.items():
            place = self._place(name)
            tokens = torch.as_tensor(found, dtype=torch.float64).detach()
            scores[place] = float(tokens.clamp(min=0).mean()) if tokens.numel() else 0.0
            if not np.isfinite(scores[place]):
                raise ValueError(f"the excess of {name!r} is {scores[place]}")
        logs = np.log(self.w) + self.eta * scores
        grown = np.exp(logs - logs.max())
        self.w = (1 - self.eps) * grown / grown.sum() + self.eps / len(self.names)

    def state_dict(self) -> dict[str, Any]:
        return {"w": self.w.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.w = np.array(state["w"])
