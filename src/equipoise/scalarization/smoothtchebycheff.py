"""Smooth Tchebycheff scalarisation: a differentiable stand-in for the worst weighted loss."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.keyed import by_name, numbered
from equipoise.core.preference import preference_like
from equipoise.core.rule import Scalarizer

CARD = Card(
    name="SmoothTchebycheff",
    shape="scalarizer",
    summary="Minimises a smooth upper bound of the worst loss, weighted by the preference.",
    formula="mu log sum_i exp(p_i (f_i - z_i) / mu)",
    title="Smooth Tchebycheff Scalarization for Multi-Objective Optimization",
    authors=("Xi Lin", "Xiaoyuan Zhang", "Zhiyuan Yang", "Fei Liu", "Zhenkun Wang", "Qingfu Zhang"),
    venue="ICML",
    year=2024,
    arxiv="2402.19078",
    guarantees=("PERMUTATION", "NON_NEGATIVE", "CONVEX", "PREFERENCE"),
    single="the direction itself",
    cost="one backward pass",
    use="as Tchebycheff, with a direction that does not jump from one objective to the next",
    avoid="when the losses differ by orders of magnitude: one temperature cannot suit them all",
    status="main",
)


class SmoothTchebycheff(Scalarizer):
    """A smooth upper bound of the worst weighted loss.

    mu log sum_i exp(p_i (f_i - z_i) / mu) with f `losses`, p `preference` (uniform, 1/m, by
    default), z `reference` (one number, or one for each objective by name) and mu `temperature`. It
    lies between the worst weighted loss and that plus mu log m. Its weights are p_i softmax_i, which
    sum to 1/m under the uniform preference. As mu falls it becomes Tchebycheff; as mu grows its
    direction becomes that of Linear.

    Use it where Tchebycheff is wanted but jumps. Not for losses of very different size; the
    temperature is in the unit of the weighted losses.

    Raises ValueError for a temperature that is not positive, and naming an objective that
    `reference` lacks. Source: Lin et al. 2024, definition of STCH. The variant
    in its code for multi-task learning, logarithms of losses relative to a warm-up, is another rule.

    >>> import torch
    >>> SmoothTchebycheff()(torch.tensor([1.0, 4.0]))
    tensor(2.2014)
    """

    preference_means = "reciprocals"

    def __init__(self, *, temperature: float = 1.0, reference: float | Mapping[str, float] = 0.0) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}; it must be positive; Tchebycheff is 0")
        self.temperature = temperature
        self.reference = reference

    def forward(
        self, losses: Tensor, *, preference: Tensor | None = None, names: Sequence[str] | None = None
    ) -> Tensor:  # (m,), (m,) -> ()
        reference = by_name(self.reference, numbered(names, losses.numel())).to(losses)
        weighted = preference_like(preference, losses) * (losses - reference)
        return self.temperature * (weighted / self.temperature).logsumexp(0)
