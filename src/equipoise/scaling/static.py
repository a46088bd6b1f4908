"""Static: the same ratios at all steps."""

from collections.abc import Mapping

from equipoise.core.card import Card
from equipoise.scaling.runs import Array
from equipoise.scaling.schedule import Schedule, mixture

CARD = Card(
    name="Static",
    shape="schedule",
    summary="The same ratios of the objectives at all steps.",
    formula="p(t) = p",
    single="ratio 1",
    cost="nothing",
    use="a mixture that `optimum` recommends, or the one to beat",
    avoid="a source of few examples beside large ones: see Stages",
    status="main",
)


class Static(Schedule):
    """The same ratios at all steps.

    p: {name: ratio}, divided by their sum.
    Raises ValueError for fewer than two names, and ratios that are below 0 or all 0.

    >>> Static({"en": 3, "tr": 1}).ratios(0).tolist()
    [0.75, 0.25]
    """

    def __init__(self, p: Mapping[str, float]) -> None:
        super().__init__(tuple(p))
        self.p = mixture(self.names, p)

    def ratios(self, step: int, steps: int | None = None) -> Array:
        return self.p
