"""LogME: the evidence of a Bayesian linear model on the features."""

from typing import Any

import numpy as np

from equipoise.core.card import Card
from equipoise.transferability.moments import Moments
from equipoise.transferability.sample import Sample

Array = np.ndarray
CARD = Card(
    name="LogME",
    shape="score",
    needs=("features", "labels"),
    summary="The log evidence of a Bayesian linear model from features to labels, for each sample",
    formula="max over alpha, beta of log p(y | F, alpha, beta) / N, mean over the columns of y",
    title="LogME: Practical Assessment of Pre-trained Models for Transfer Learning",
    authors=("You", "Liu", "Wang", "Long"),
    venue="ICML",
    year=2021,
    arxiv="2102.11005",
    guarantees=("FEATURE_SCALE_INVARIANT",),
    cost="one pass and one eigendecomposition, min(N, D)^2 max(N, D); K columns at once",
    use="classes, regression and several labels at once, also where samples are fewer than features",
    avoid="to say how good a model will be: it ranks",
    single="a number in nats for each sample",
    status="main",
    evidence="transferability",
)
NOISE = 1e-8
"""The least mean square of the noise, in units of the labels' own: a perfect fit has no greatest evidence."""
HALVINGS = 20
"""Of the range between three neighbours of a grid of two points for each power of ten."""
ITERATIONS = 11
SMALL = 1e-5


def logme(
    features: Any = None, labels: Any = None, probabilities: Any = None, *, legacy: bool = False
) -> float:
    """The log evidence of a Bayesian linear model from features to labels, per sample; higher is better.

    For each column t of the labels (0 and 1 for a class), t = F w + noise with w ~ N(0, I / alpha) and noise
    of variance 1 / beta: the greatest log p(t | F, alpha, beta) / N over both. beta is known for each
    alpha / beta, and this is sought over its whole range, so that the scale of the features counts for
    nothing; without any use of them it is the evidence of noise alone. The mean over the columns that vary.

    features: (N, D), or a Sample. labels: (N,) classes, or (N,), (N, K) numbers. `legacy` takes the authors'
    settings: 11 steps of MacKay's fixed point from alpha = beta = 1 with floors of 1e-5, which depend on the
    scale, all columns, and without (D - k) / 2 log alpha, k the rank, so that where N < D scores grow with D
    alone. Raises ValueError for labels none of which vary.

    Source: You et al. 2021, section 4 and algorithm 1; with that term restored.

    >>> import numpy as np
    >>> x = np.array([[-1.0], [-0.9], [0.9], [1.0]])
    >>> logme(x, [0, 0, 1, 1]) > logme(x, [0, 1, 0, 1])
    True
    """
    sample = Sample.of(features, labels, probabilities)
    if legacy:
        return _legacy(sample.moments)
    return float(evidences(sample)[0].mean() / sample.moments.size)


def evidences(sample: Sample) -> tuple[Array, Array, Array]:  # -> (K,), (K,), (K,)
    """The greatest log evidence of each column that varies, and alpha and beta there; alpha may be infinite.

    With g = s_1 / (alpha / beta), s_1 the largest squared singular value and x_j = s_j / s_1, the noise's
    variance is Q / N, Q = sum_j (u_j' t)^2 / (1 + g x_j) + |t - U U't|^2, and the evidence is
    -(N log(2 pi Q / N) + N + sum_j log(1 + g x_j)) / 2.
    """
    found = sample.moments
    size, squares = found.size, found.target_squares
    varies = squares * size - found.target_total**2 > size * squares * 1e-14
    if not varies.any():
        raise ValueError(f"{sample.name}: the labels are all alike; LogME needs some that vary")
    spectrum, projected = found.spectrum  # (k,), (k, K)
    largest = float(spectrum.max(initial=0.0)) or 1.0
    x, told, squares = spectrum / largest, projected[:, varies] ** 2, squares[varies]
    floor, rest = NOISE * squares, np.maximum(squares - told.sum(0), 0) * (len(x) < size)

    def noise(g: Array) -> Array:  # (K,) or (G, 1) -> Q of every column there
        share = 1 / (1 + x[:, None] * g)
        return np.maximum((told * share).sum(0) + rest, floor)

    def evidence(noise: Array, used: Array | float) -> Array:
        return -(size * np.log(2 * np.pi * noise / size) + size + used) / 2

    steps = np.log(10) / 2 * np.arange(-12, 2 * (10 - np.log10(x.min(initial=1.0))) + 1)  # log g
    shares = 1 / (1 + np.exp(steps)[:, None] * x)  # (G, k)
    grid = evidence(np.maximum(shares @ told + rest, floor), -np.log(shares).sum(1)[:, None])  # (G, K)
    best = grid.argmax(0)
    low, high = steps[np.maximum(best - 1, 0)], steps[np.minimum(best + 1, len(steps) - 1)]
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        gone = x[:, None] * np.exp(middle)
        gone /= 1 + gone  # (k, K), what an axis gives up of itself
        total = (told * (1 - gone)).sum(0) + rest
        falls = size * (told * gone * (1 - gone)).sum(0) / total * (total > floor)
        rises = falls > gone.sum(0)
        low, high = np.where(rises, middle, low), np.where(rises, high, middle)
    g = np.exp((low + high) / 2)
    used = np.log1p(x[:, None] * g).sum(0)
    value, alone = evidence(noise(g), used), evidence(squares, 0.0)
    g = np.where(value > alone, g, 0.0)
    beta = size / noise(g)
    with np.errstate(divide="ignore"):
        return np.maximum(value, alone), beta * largest / g, beta


def _legacy(found: Moments) -> float:
    size, width = found.size, found.width
    spectrum, projected = found.spectrum  # (k,), (k, K)
    squares = projected**2
    residual = np.maximum(found.target_squares - squares.sum(0), 0)  # (K,)
    alpha = beta = np.ones(len(residual))
    moving = np.ones(len(residual), bool)
    length = error = np.zeros(len(residual))
    for _ in range(ITERATIONS):
        ratio = alpha / beta
        shrunk = spectrum[:, None] + ratio  # (k, K)
        gamma = (spectrum[:, None] / shrunk).sum(0)
        new_length = (spectrum[:, None] * squares / shrunk**2).sum(0)
        new_error = (squares * (ratio / shrunk) ** 2).sum(0) + residual
        length, error = np.where(moving, new_length, length), np.where(moving, new_error, error)
        alpha = np.where(moving, gamma / (length + SMALL), alpha)
        beta = np.where(moving, (size - gamma) / (error + SMALL), beta)
        moving &= np.abs(alpha / beta - ratio) / ratio > 1e-3
        if not moving.any():
            break
    determinant = np.log(alpha + beta * spectrum[:, None]).sum(0)
    evidence = (
        width * np.log(alpha) + size * np.log(beta) - determinant - beta * error - alpha * length
    ) / 2 - size / 2 * np.log(2 * np.pi)
    return float(evidence.mean() / size)
