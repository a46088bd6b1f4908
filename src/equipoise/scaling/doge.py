"""DoGE: more of what helps the others, by the inner products of gradients."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.checks import check_positive
from equipoise.scaling.runs import Array
from equipoise.scaling.schedule import Schedule, uniform

CARD = Card(
    name="DoGE",
    shape="schedule",
    summary="Weights grow where a source's gradient goes along with those of the others.",
    formula="score_i = lr sum_(j != i) <g_i, g_j> / mean |g|; w <- softmax(log w + score / mu)",
    title="DoGE: Domain Reweighting with Generalization Estimation",
    authors=("Simin Fan", "Matteo Pagliardini", "Martin Jaggi"),
    venue="ICML",
    year=2024,
    arxiv="2310.15393",
    single="weight 1",
    cost="a row sum of the Gramian that the engine has",
    use="the Gramian is there for a rule, and no losses of small runs are",
    avoid="small batches: inner products of single batches are noise",
    status="main",
    evidence="doremi_doge",
)


class DoGE(Schedule):
    """Weights that rise with the row sums of the Gramian, one mirror step at a time.

    After each step `observe(step.gramian, lr=...)`, of what `backward` gives back: the scores cost no passes
    beyond those of the Gramian. Under `target` a score is the inner product with the gradient of that
    objective alone, for one that is not to be trained on: its own ratio is 0. The answer is the
    sampler's `average`.

    mu: how slowly weights move. Raises ValueError for a mu that is not above 0, and a target that is no name.

    Source: Fan et al. 2024, algorithm 1, mu = 0.05; without the clipping of the authors' code.
    """

    def __init__(self, names, *, mu: float = 0.05, target: str | None = None) -> None:
        super().__init__(names)
        check_positive(mu=mu)
        self.mu = mu
        self.target = None if target is None else self._place(target)
        self.w = uniform(self.names)
        if self.target is not None:
            self.w[self.target] = 0.0
            self.w /= self.w.sum()

    def ratios(self, step: int, steps: int | None = None) -> Array:
        return self.w

    def scores(self, gramian: Tensor, *, lr: float) -> Array:  # (m, m) -> (m,)
        """What a step of the learning rate along each gradient gives to the others, over the mean norm.

        Raises ValueError for a Gramian of another size or with what is not finite.
        """
        held = gramian.detach().to("cpu").double().numpy()
        m = len(self.names)
        if held.shape != (m, m):
            raise ValueError(f"the Gramian is {held.shape}, and there are {m} objectives")
        bad = ~np.isfinite(held).all(1)
        if bad.any():
            raise ValueError(f"the Gramian of {self.names[int(bad.argmax())]!r} is not finite")
        norms = np.sqrt(np.maximum(held.diagonal(), 0)).mean()
        found = held.sum(1) - held.diagonal() if self.target is None else held[:, self.target].copy()
        if self.target is not None:
            found[self.target] = 0.0
        return lr * found / norms if norms > 0 else np.zeros(m)

    def observe(self, gramian: Tensor, *, lr: float) -> None:
        """Take a step by the scores; raises as `scores` does."""
        logs = np.log(np.maximum(self.w, 1e-300)) + self.scores(gramian, lr=lr) / self.mu
        grown = np.where(self.w > 0, np.exp(logs - logs.max()), 0.0)
        self.w = grown / grown.sum()

    def state_dict(self) -> dict[str, Any]:
        return {"w": self.w.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.w = np.array(state["w"])
