"""Proxy A-distance: how well a linear classifier tells two domains apart."""

from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from equipoise.core.card import Card
from equipoise.transferability.mmd import drawn
from equipoise.transferability.moments import standardised

CARD = Card(
    name="Proxy_A_Distance",
    shape="score",
    needs=("features", "source"),
    summary="How well a linear classifier tells source from target features, on samples it has not seen",
    formula="max(0, 2 (1 - 2 e)), e the cross-validated error, source and target counting alike",
    title="Analysis of Representations for Domain Adaptation",
    authors=("Ben-David", "Blitzer", "Crammer", "Pereira"),
    venue="NeurIPS",
    year=2006,
    guarantees=("FEATURE_SCALE_INVARIANT", "RANDOM"),
    cost="a logistic regression for each fold",
    use="two domains under one model",
    avoid="few samples and many features: all domains can be told apart then",
    single="a distance from 0 to 2: lower is nearer",
    evidence="transferability",
)


def proxy_a_distance(
    source: Any, target: Any, *, folds: int = 5, strength: float = 1.0, limit: int = 2000, seed: int = 0
) -> float:
    """2 (1 - 2 e), e the error of a linear classifier of the domain on samples it has not seen; 0 to 2.

    A logistic regression with penalty 1 / `strength` on features of unit variance, cross-validated over
    `folds`; e is the mean of the errors on source and target, so that unlike sizes do not count. No better
    than chance is 0. Lower is nearer. The paper has any classifier; the choice is ours.

    source: (M, D), target: (N, D) features of one model, arrays or Samples. At most `limit` of each count,
    drawn from `seed`, which shuffles the folds too. Raises ValueError for unlike widths, NaN, and sets
    smaller than `folds`.

    Source: Ben-David et al. 2006, section 5.

    >>> proxy_a_distance([[0.0], [0.1], [0.2]], [[9.0], [9.1], [9.2]], folds=3)
    2.0
    """
    if folds < 2:
        raise ValueError(f"folds must be 2 or more, got {folds}")
    draw = np.random.default_rng(seed)
    one, other = (drawn(*side, limit, draw) for side in (("source", source), ("target", target)))
    if one.shape[1] != other.shape[1]:
        raise ValueError(
            f"source features have {one.shape[1]} columns and target features {other.shape[1]}; they must "
            "come from the same model"
        )
    if min(len(one), len(other)) < folds:
        raise ValueError(f"source of {len(one)} and target of {len(other)} samples; {folds} folds need more")
    rows = standardised(np.concatenate([one, other]))
    domain = np.repeat([0, 1], [len(one), len(other)])
    wrong = np.empty(len(rows))
    for seen, unseen in StratifiedKFold(folds, shuffle=True, random_state=seed).split(rows, domain):
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)
        wrong[unseen] = model.fit(rows[seen], domain[seen]).predict(rows[unseen]) != domain[unseen]
    error = (wrong[domain == 0].mean() + wrong[domain == 1].mean()) / 2
    return max(0.0, 2 * (1 - 2 * float(error)))
