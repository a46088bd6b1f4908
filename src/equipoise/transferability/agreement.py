"""Agreement of rankings: the weighted Kendall tau, which counts exchanges near the top most."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import rankdata, weightedtau

Array = np.ndarray
Column = Mapping[str, float]
ROUNDING, LEAST = 1e-9, 1e-15
"""Values whose difference is no more than this, relative or absolute, are alike."""


def levels(values: Array) -> Array:  # (m,) of finite numbers -> (m,) of whole numbers
    """The order of values from 0 on; those that are alike within rounding have the same level.

    >>> levels(np.array([2.0, 0.5, 2.0 + 1e-15]))
    array([1, 0, 1])
    """
    order = np.argsort(values, kind="stable")
    rising = values[order]
    apart = np.diff(rising) > np.maximum(ROUNDING * np.abs([rising[1:], rising[:-1]]).max(0), LEAST)
    found = np.zeros(len(values), int)
    found[order[1:]] = np.cumsum(apart)
    return found


def weighted_tau(a: Column, b: Column) -> float | None:
    """The weighted Kendall correlation of two columns over the models that both have, from -1 to 1.

    An exchange of models at ranks r and s, from 0 at the top, weighs 1 / (r + 1) + 1 / (s + 1); the mean of
    the ranks by either column, as SciPy does by default. Values alike within rounding are ties. None where
    fewer than two models are in both, or one column is constant.

    Source: Vigna 2015, "A Weighted Correlation Index for Rankings with Ties"; You et al. 2021 judge scores by
    it.

    >>> weighted_tau({"a": 3.0, "b": 2.0, "c": 1.0}, {"a": 30.0, "b": 20.0, "c": 10.0})
    1.0
    """
    names = [name for name in a if name in b]
    x, y = (levels(np.array([column[n] for n in names], float)) for column in (a, b))
    if len(names) < 2 or not x.any() or not y.any():
        return None
    found: Any = weightedtau(x, y)
    return round(float(found.statistic), 12)


def static_rank(history: Mapping[str, Column], target: str | None = None) -> dict[str, float]:
    """Minus the mean rank of every model on other targets, 0 the best and -1 the worst; blind to the target.

    history: target -> model -> fine-tuned accuracy. `target`, where it is among them, is left out. Ranks of a
    target are put on [0, 1] by the number of models there, so that a model may be absent from some.

    >>> static_rank({"cars": {"a": 0.9, "b": 0.8}, "pets": {"a": 0.7, "b": 0.6}})
    {'a': 0.0, 'b': -1.0}
    """
    ranks: dict[str, list[float]] = {}
    for name, truths in history.items():
        if name == target or len(truths) < 2:
            continue
        places = (rankdata([-value for value in truths.values()]) - 1) / (len(truths) - 1)
        for model, place in zip(truths, places, strict=True):
            ranks.setdefault(model, []).append(float(place))
    return {model: -float(np.mean(places)) + 0.0 for model, places in ranks.items()}
