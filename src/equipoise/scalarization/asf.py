"""Achievement scalarising function: the loss that misses its aspiration by most."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.keyed import by_name, numbered
from equipoise.core.preference import preference_like
from equipoise.core.rule import Scalarizer

CARD = Card(
    name="ASF",
    shape="scalarizer",
    summary="Minimises the worst loss in units of the preferred proportions.",
    formula="max_i (f_i - z_i) / p_i",
    title="The Use of Reference Objectives in Multiobjective Optimization",
    authors=("Andrzej P. Wierzbicki",),
    venue="Multiple Criteria Decision Making Theory and Application, Lecture Notes in Economics and "
    "Mathematical Systems 177",
    year=1980,
    doi="10.1007/978-3-642-48782-8_32",
    guarantees=("PERMUTATION", "HOMOGENEOUS(1)", "NON_NEGATIVE", "CONVEX", "PREFERENCE"),
    single="the direction itself",
    cost="one backward pass",
    use="to end where the losses stand in given proportions, without ever driving one up",
    avoid="with noisy losses: only the worst objective trains in each step",
    status="main",
)


class ASF(Scalarizer):
    """The worst loss above its aspiration level, each in units of its share of the preference.

    max_i (f_i - z_i) / p_i with f `losses`, p `preference` (uniform, 1/m, by default) and z `reference`, the
    aspiration levels, which may lie above or below the front (one number, or one for each objective by
    name). At a minimum inside the front f - z is proportional to p, so a larger entry allows a larger
    loss: it is Tchebycheff at 1 / p, and what others call its modified form.

    With a `temperature` mu > 0 the worst is taken smoothly, mu log sum_i exp((f_i - z_i) / (p_i mu)); mu
    is in the unit of the weighted losses.

    Use it for a point of the front in given proportions. Not with noisy losses (set a temperature).

    An entry of the preference below `floor` times the largest counts as that; at zero the formula is
    infinite. Raises ValueError for a negative temperature, for a floor that is not positive, and naming
    an objective that `reference` lacks. Source: Wierzbicki 1980; as Tchebycheff at 1 / p, Ma et al. 2018
    (On Tchebycheff Decomposition Approaches for Multiobjective Evolutionary Optimization).

    >>> ASF()(torch.tensor([1.0, 4.0]), preference=torch.tensor([0.2, 0.8]))
    tensor(5.)
    """

    preference_means = "proportions"

    def __init__(
        self,
        *,
        reference: float | Mapping[str, float] = 0.0,
        temperature: float = 0.0,
        floor: float = 1e-6,
    ) -> None:
        super().__init__()
        if not temperature >= 0:
            raise ValueError(f"temperature is {temperature}; it is 0 (the worst alone) or more")
        if not 0 < floor <= 1:
            raise ValueError(f"floor is {floor}; it is a share of the largest preference, above 0")
        self.reference = reference
        self.temperature = temperature
        self.floor = floor

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, floor={self.floor}"

    def forward(
        self, losses: Tensor, *, preference: Tensor | None = None, names: Sequence[str] | None = None
    ) -> Tensor:  # (m,), (m,) -> ()
        missed = self.missed(losses, preference, names)
        if self.temperature == 0:
            return missed.amax()
        return self.temperature * (missed / self.temperature).logsumexp(0)

    def missed(
        self, losses: Tensor, preference: Tensor | None, names: Sequence[str] | None
    ) -> Tensor:  # (m,), (m,) -> (m,)
        """(f - z) / p."""
        chosen = preference_like(preference, losses)
        chosen = torch.maximum(chosen, self.floor * chosen.amax())
        return (losses - by_name(self.reference, numbered(names, losses.numel())).to(losses)) / chosen
