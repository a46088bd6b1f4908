"""UniMax: as even as it goes with no source repeated more than so often."""

from collections.abc import Mapping

from equipoise.core.card import Card
from equipoise.core.checks import check_positive
from equipoise.scaling.static import Static

CARD = Card(
    name="UniMax",
    shape="schedule",
    summary="Ratios as even as they can be while no source is repeated more than so often.",
    formula="from the smallest on: b_i = min(budget left / sources left, epochs n_i), p_i ~ b_i",
    title="UniMax: Fairer and More Effective Language Sampling for Large-Scale Multilingual Pretraining",
    authors=(
        "Hyung Won Chung",
        "Noah Constant",
        "Xavier Garcia",
        "Adam Roberts",
        "Yi Tay",
        "Sharan Narang",
        "Orhan Firat",
    ),
    venue="ICLR",
    year=2023,
    arxiv="2304.09151",
    single="ratio 1",
    cost="one sort",
    use="sources of very unlike sizes and a known budget",
    avoid="sources of unlike worth: it looks at sizes alone",
    status="main",
)


class UniMax(Static):
    """Every source gets an equal part of the budget, or all of its tokens `epochs` times if that is less.

    Source by source from the smallest: what is left of the budget over the sources left, at most epochs n_i.
    What all of them together cannot use is left; `used` says how much of the budget is.

    sizes: {name: tokens}. budget: tokens in all, in the same unit. epochs: the most that a source is repeated
    (the paper compares 1, 5 and 10). Raises ValueError for numbers that are not above 0.

    Source: Chung et al. 2023, algorithm 1.

    >>> UniMax({"en": 900.0, "tr": 10.0}, budget=100.0, epochs=1).ratios(0).tolist()
    [0.9, 0.1]
    """

    def __init__(self, sizes: Mapping[str, float], *, budget: float, epochs: float = 1.0) -> None:
        check_positive(budget=budget, epochs=epochs)
        check_positive(**{f"sizes[{name}]": size for name, size in sizes.items()})
        left, parts = budget, {}
        for place, name in enumerate(sorted(sizes, key=sizes.__getitem__)):
            parts[name] = min(left / (len(sizes) - place), epochs * sizes[name])
            left -= parts[name]
        super().__init__({name: parts[name] for name in sizes})
        self.used = min(1.0, sum(parts.values()) / budget)
