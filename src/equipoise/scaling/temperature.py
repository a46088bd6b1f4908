"""Temperature: ratios between those of the sizes and equal ones."""

from collections.abc import Mapping

import numpy as np

from equipoise.core.card import Card
from equipoise.core.checks import check_positive
from equipoise.scaling.schedule import uniform
from equipoise.scaling.static import Static

CARD = Card(
    name="Temperature",
    shape="schedule",
    summary="Ratios between those of the sizes, T = 1, and equal ones, T without end.",
    formula="p_i ~ n_i^(1 / T)",
    title="Massively Multilingual Neural Machine Translation in the Wild: Findings and Challenges",
    authors=(
        "Naveen Arivazhagan",
        "Ankur Bapna",
        "Orhan Firat",
        "Dmitry Lepikhin",
        "Melvin Johnson",
        "Maxim Krikun",
    ),
    venue="arXiv",
    year=2019,
    arxiv="1907.05019",
    single="ratio 1",
    cost="nothing",
    use="sizes are all that is known of the sources; the paper takes T = 5",
    avoid="small sources and long training: at a high T they are repeated many times, see UniMax",
    status="main",
)


class Temperature(Static):
    """p_i in proportion to n_i^(1/T), n the sizes of the sources.

    sizes: {name: tokens, or examples}, in any unit. T: 1 keeps the proportions of the sizes, infinity makes
    all equal. Raises ValueError for a size or T that is not above 0.

    Source: Arivazhagan et al. 2019, section 4.2.

    >>> Temperature({"en": 900.0, "tr": 100.0}, T=2.0).ratios(0).round(6).tolist()
    [0.75, 0.25]
    """

    def __init__(self, sizes: Mapping[str, float], *, T: float = 5.0) -> None:
        check_positive(**{f"sizes[{name}]": size for name, size in sizes.items()})
        if not T > 0:
            raise ValueError(f"T is {T}; it is above 0")
        names = tuple(sizes)
        if np.isinf(T):
            p = uniform(names)
        else:
            logs = np.log([sizes[name] for name in names]) / T
            p = np.exp(logs - logs.max())
        super().__init__(dict(zip(names, p.tolist(), strict=True)))
        self.T = T
