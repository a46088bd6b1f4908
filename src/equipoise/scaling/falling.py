"""The fall of a learning rate at the end."""

from math import cos, pi, sqrt
from typing import Literal

from equipoise.core.errors import check_choice

Decay = Literal["linear", "cosine", "sqrt"]


def fall(step: int, total: int | None, decay: int, shape: Decay) -> float:
    """1 until `decay` steps before the end, then down to 0 at `total`.

    shape: "linear", "cosine", or "sqrt", 1 - sqrt(s) with s the share of the decay that is over.

    >>> fall(90, 100, 20, "linear"), round(fall(95, 100, 20, "sqrt"), 3)
    (0.5, 0.134)
    """
    check_choice("shape", shape, ("linear", "cosine", "sqrt"))
    if total is None or not decay or step < total - decay:
        return 1.0
    s = min((step - (total - decay)) / decay, 1.0)
    return {"linear": 1 - s, "cosine": (1 + cos(pi * s)) / 2, "sqrt": 1 - sqrt(s)}[shape]
