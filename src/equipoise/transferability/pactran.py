"""PACTran-Gauss: a PAC-Bayes bound on the loss of a linear classifier that is fitted to the features."""

from typing import Any

import numpy as np
from scipy.optimize import minimize

from equipoise.core.card import Card
from equipoise.transferability.sample import Sample

Array = np.ndarray
CARD = Card(
    name="PACTran",
    shape="score",
    needs=("features", "labels"),
    summary="Minus a bound on the loss of a linear classifier: its regularised loss and the flatness there",
    formula="-(min xent + |w|^2 / (2 l N) + (k D / (2 l N)) s^2 log(tr(Hessian) l N / (k D)))",
    title="PACTran: PAC-Bayesian Metrics for Estimating the Transferability of Pretrained Models to "
    "Classification Tasks",
    authors=("Ding", "Chen", "Levinboim", "Changpinyo", "Soricut"),
    venue="ECCV",
    year=2022,
    arxiv="2203.05126",
    cost="some tens of steps of a linear classifier, N D C each",
    use="classes, where a linear classifier is what will be trained",
    avoid="features of unlike scale from model to model: the prior is fixed",
    single="a number in nats",
    status="main",
    evidence="transferability",
)


def pactran(
    features: Any = None,
    labels: Any = None,
    probabilities: Any = None,
    *,
    prior: float = 1.0,
    spread: float = 10.0,
    iterations: int = 1000,
    seed: int | None = None,
) -> float:
    """Minus the bound of PACTran with a Gaussian prior; higher is better.

    The least of cross-entropy + |w|^2 / (2 prior N) over linear classifiers of the centred features, plus
    k D / (2 prior N) s^2 log(tr(H) prior N / (k D)) with k classes, s^2 = `spread` / D and H the Hessian of
    that loss. `prior` is the paper's lambda: 0.1, 1 and 10 there. `spread` is 0.1 to 10 in the authors'
    code, 100 and more in ETran's copy of it.

    The problem is convex: the search starts from zero and ends at its minimum, so that nothing is drawn. A
    `seed` makes it start from N(0, 0.03^2) as the authors do; with iterations=10 the minimum is not reached
    and the value depends on the seed in the third digit, as in ETran's copy.

    features: (N, D), or a Sample; centred without writing into them. labels: (N,) classes, two at least.
    Raises ValueError for a prior or spread that is not positive.

    Source: Ding et al. 2022, equation 13; sign turned.

    >>> x = [[0.0], [0.2], [5.0], [5.2]]
    >>> pactran(x, [0, 0, 1, 1]) > pactran(x, [0, 1, 0, 1])
    True
    """
    if not prior > 0 or not spread > 0:
        raise ValueError(f"prior and spread must be positive, got {prior} and {spread}")
    sample = Sample.of(features, labels, probabilities)
    k = len(sample.classes)
    if k < 2:
        raise ValueError(f"{sample.name}: labels hold one class; PACTran fits a classifier of two or more")
    x = sample.features - sample.features.mean(0)
    (n, d), strength = x.shape, prior * len(x)
    targets = sample.targets().T

    def loss(flat: Array) -> tuple[float, Array]:
        theta = flat.reshape(k, d + 1)
        entropy, chance = _fit(theta, x, targets)
        wrong = (chance - targets) / n
        slope = np.column_stack([wrong @ x + theta[:, :d] / strength, wrong.sum(1)])
        return entropy + 0.5 * float((theta[:, :d] ** 2).sum()) / strength, slope.ravel()

    start = np.zeros((k, d + 1))
    if seed is not None:
        start[:, :d] = 0.03 * np.random.RandomState(seed).normal(size=(d, k)).T
    tolerance = {"ftol": 1e-13, "gtol": 1e-8} if seed is None else {"ftol": 1e-6, "gtol": 1e-6}
    options = {"maxiter": iterations, **tolerance}
    found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options=options)
    chance = _fit(found.x.reshape(k, d + 1), x, targets)[1]
    doubt = chance - chance**2
    trace = float((doubt @ x**2).sum() + k * d / strength + doubt.sum())
    flatness = np.log(trace * strength / (k * d) + 1e-10)
    return -float(found.fun + 0.5 * k * d / strength * spread / d * flatness)


def _fit(theta: Array, x: Array, targets: Array) -> tuple[float, Array]:  # (k, d + 1), (n, d), (k, n)
    """The cross-entropy of a classifier, intercepts last, and its probabilities (k, n).

    Samples lie along the last axis, where sums over few classes are fast, and are exponentiated once.
    """
    logits = theta[:, :-1] @ x.T + theta[:, -1:]
    logits -= logits.max(0)
    chance = np.exp(logits)
    sums = chance.sum(0)
    return float((np.log(sums) - (targets * logits).sum(0)).mean()), chance / sums
