"""Augmented achievement scalarising function: the worst loss, and a little of all of them."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from equipoise.core.card import Card
from equipoise.scalarization.asf import ASF

CARD = Card(
    name="AASF",
    shape="scalarizer",
    summary="Minimises the worst loss in units of the preferred proportions, and a small share of the sum.",
    formula="max_i (f_i - z_i) / p_i + rho sum_i (f_i - z_i) / p_i",
    title="The Use of Reference Objectives in Multiobjective Optimization",
    authors=("Andrzej P. Wierzbicki",),
    venue="Multiple Criteria Decision Making Theory and Application, Lecture Notes in Economics and "
    "Mathematical Systems 177",
    year=1980,
    doi="10.1007/978-3-642-48782-8_32",
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)", "NON_NEGATIVE", "CONVEX", "PREFERENCE"),
    single="1 + rho times the direction",
    cost="one backward pass",
    use="in place of ASF, so that every objective trains in every step and no minimum is only weakly optimal",
    avoid="with a large rho on a concave front: beyond its slope the ends take over, as they do for Linear",
    status="main",
)


class AASF(ASF):
    """The worst loss above its aspiration level plus a small multiple of the sum of all of them.

    max_i (f_i - z_i) / p_i + rho sum_i (f_i - z_i) / p_i with f `losses`, p `preference` (uniform, 1/m, by
    default), z `reference` and rho `rho`; `temperature` and `floor` as in ASF, whose case rho = 0 this is.
    The sum bounds the trade-offs at a minimum: in units of p, no loss can fall by more than
    e (1 / rho + m - 1) where no other rises by more than e.

    Use it in place of ASF. Not with a large rho where the front is concave.

    Raises ValueError for a negative rho, and as ASF does. Source: Wierzbicki 1980, with the small rho left to
    the user; 0.05 is the choice of Knowles 2006 (ParEGO) for the augmented Tchebycheff function.

    >>> import torch
    >>> AASF(rho=0.1)(torch.tensor([1.0, 4.0]), preference=torch.tensor([0.2, 0.8]))
    tensor(6.)
    """

    def __init__(
        self,
        *,
        rho: float = 0.05,
        reference: float | Mapping[str, float] = 0.0,
        temperature: float = 0.0,
        floor: float = 1e-6,
    ) -> None:
        super().__init__(reference=reference, temperature=temperature, floor=floor)
        if not rho >= 0:
            raise ValueError(f"rho is {rho}; it is 0 (then it is ASF) or more")
        self.rho = rho

    def extra_repr(self) -> str:
        return f"rho={self.rho}, {super().extra_repr()}"

    def forward(
        self, losses: Tensor, *, preference: Tensor | None = None, names: Sequence[str] | None = None
    ) -> Tensor:  # (m,), (m,) -> ()
        worst = super().forward(losses, preference=preference, names=names)
        return worst + self.rho * self.missed(losses, preference, names).sum()
