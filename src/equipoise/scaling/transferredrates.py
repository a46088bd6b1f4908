"""Settings for another horizon or batch, from those that were tuned."""

from equipoise.core.checks import check_positive


def lr_for_horizon(lr: float, tuned: float, tokens: float, *, beta: float = 0.32) -> float:
    """The learning rate for training on `tokens`, from the best one of a run on `tuned` tokens.

    lr (tuned / tokens)^beta: longer training needs smaller steps. beta: 0.32 is the paper's for language
    models; fit your own from three short horizons where you can.

    Raises ValueError for numbers that are not above 0.
    Source: Bjorck et al. 2024, Scaling Optimal LR Across Token Horizons, arXiv 2409.19913, equation 1.

    >>> round(lr_for_horizon(1e-3, 1e9, 1e11), 7)
    0.0002291
    """
    check_positive(lr=lr, tuned=tuned, tokens=tokens, beta=beta)
    return lr * (tuned / tokens) ** beta


def ema_for_batch(momentum: float, kappa: float) -> float:
    """The momentum of an average of weights (or of a teacher) for a batch that is kappa times as large.

    momentum^kappa: fewer steps see the same number of examples. Scale the learning rate too: by kappa under
    SGD, by its square root under Adam.

    Raises ValueError for a momentum outside (0, 1) and a kappa that is not above 0.
    Source: Busbridge et al. 2023, How to Scale Your EMA, arXiv 2307.13813, definition 1.2.

    >>> round(ema_for_batch(0.996, 8), 4)
    0.9684
    """
    check_positive(kappa=kappa)
    if not 0 < momentum < 1:
        raise ValueError(f"momentum is {momentum}; it is between 0 and 1")
    return momentum**kappa
