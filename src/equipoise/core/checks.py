"""Options that are numbers: what they must be, said in one way."""

from math import isfinite


def check_positive(**options: float) -> None:
    """Raise ValueError naming an option that is not a finite number above 0.

    >>> check_positive(learning_rate=1.0)
    """
    for name, value in options.items():
        if not (isfinite(value) and value > 0):
            raise ValueError(f"{name} is {value}; it is above 0")


def check_finite(**options: float) -> None:
    """Raise ValueError naming an option that is no finite number.

    >>> check_finite(b=-0.1)
    """
    for name, value in options.items():
        if not isfinite(value):
            raise ValueError(f"{name} is {value}; it is a finite number")


def check_not_negative(**options: float) -> None:
    """Raise ValueError naming an option that is not a finite number of 0 or more.

    >>> check_not_negative(mu=float("nan"))
    Traceback (most recent call last):
    ValueError: mu is nan; it is 0 or more
    """
    for name, value in options.items():
        if not (isfinite(value) and value >= 0):
            raise ValueError(f"{name} is {value}; it is 0 or more")


def check_share(**options: float) -> None:
    """Raise ValueError naming an option that is not in [0, 1).

    >>> check_share(ema=0.95)
    """
    for name, value in options.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} is {value}; it is in [0, 1)")


def check_count(least: int, /, **options: int | None) -> None:
    """Raise ValueError naming an option that is not a whole number of `least` or more; None passes.

    >>> check_count(1, steps=2.5)
    Traceback (most recent call last):
    ValueError: steps is 2.5; it is a whole number, 1 or more
    """
    for name, value in options.items():
        if value is not None and not (isfinite(value) and value == int(value) and value >= least):
            raise ValueError(f"{name} is {value}; it is a whole number, {least} or more")
