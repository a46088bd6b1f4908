"""MGDA: the common descent direction of least norm."""

from typing import Literal, get_args

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.qp import min_norm
from equipoise.core.rule import GramianRule

CARD = Card(
    name="MGDA",
    shape="gramian",
    summary="The convex combination of the directions with the least norm; it hurts no objective.",
    formula="w = argmin over the simplex of w'Gw",
    title="Multiple-gradient descent algorithm (MGDA) for multiobjective optimization",
    authors=("Jean-Antoine Désidéri",),
    venue="Comptes Rendus Mathématique 350",
    year=2012,
    doi="10.1016/j.crma.2012.03.014",
    guarantees=("PERMUTATION", "NON_CONFLICTING", "HOMOGENEOUS(1)", "SIMPLEX", "NON_NEGATIVE"),
    single="the direction itself",
    cost="the Gramian and one quadratic program of size m",
    use="a Pareto-stationary point is wanted and the directions are of similar norm",
    avoid="norms differ widely: the shortest direction takes nearly all the weight",
    status="main",
)

Normalization = Literal["none", "l2", "loss", "loss+"]


class MGDA(GramianRule):
    """Give every objective the same gain, the largest that a step of least norm can share out.

    w = argmin_{w in simplex} w'Gw, with G = `gramian` (Désidéri 2012, least-norm element of the
    convex hull); the update J'w is zero exactly at a Pareto-stationary point. Solved exactly, where
    others stop Frank-Wolfe early.

    When to use: a common descent direction is wanted, and the norms are alike.
    When not: norms differ widely. Short directions rule the answer; `normalize="l2"` evens them out.

    normalize: what the directions are divided by before the weights are found (they then weigh the
        directions as they came, as in Sener & Koltun 2018): nothing, their norm, their loss, or
        both. A zero loss leaves its objective without weight; a negative one raises ValueError.

    Zero rows share the weight, so that the update is zero: nothing lowers all the losses.

    >>> MGDA()(torch.tensor([[4.0, -2.0], [-2.0, 2.0]]))
    tensor([0.4000, 0.6000], dtype=torch.float64)
    """

    def __init__(self, *, normalize: Normalization = "none") -> None:
        super().__init__()
        if normalize not in get_args(Normalization):
            raise ValueError(
                f"normalize must be one of {', '.join(get_args(Normalization))}, got {normalize!r}"
            )
        self.normalize = normalize
        self.batched = normalize == "none"

    def forward(self, gramian: Tensor, *, losses: Tensor | None = None) -> Tensor:  # (m, m), (m,) -> (m,)
        if self.normalize == "none":
            return min_norm(gramian).value
        divisor = self._divisor(gramian, losses)
        kept = divisor > 0
        if self.normalize == "l2" or not kept.any():  # a zero row stays in and takes the weight
            kept = torch.ones_like(kept)
            divisor = torch.where(divisor > 0, divisor, 1.0)
        divisor = divisor[kept] / divisor[kept].min()
        weights = torch.zeros_like(kept, dtype=torch.float64)
        weights[kept] = min_norm(gramian[kept][:, kept] / torch.outer(divisor, divisor)).value
        return weights

    def _divisor(self, gramian: Tensor, losses: Tensor | None) -> Tensor:  # (m, m), (m,) -> (m,)
        norms = gramian.diagonal().clamp(min=0.0).sqrt()
        if self.normalize == "l2":
            return norms
        if losses is None:
            raise ValueError(f"MGDA(normalize={self.normalize!r}) divides by the losses, and none were given")
        losses = losses.detach().to(norms)
        if bool((losses < 0).any()):
            raise ValueError(f"MGDA(normalize={self.normalize!r}) needs losses >= 0, got {losses.tolist()}")
        return losses if self.normalize == "loss" else losses * torch.where(norms > 0, norms, 1.0)

    def extra_repr(self) -> str:
        return "" if self.normalize == "none" else f"normalize={self.normalize!r}"
