"""Forms in N and D."""

import numpy as np

from equipoise.scaling.form import Array, Form, grid
from equipoise.scaling.runs import Features

EXPONENTS = np.geomspace(0.02, 1.5, 24)


def power(column: Array, exponent: Array) -> tuple[Array, Array]:  # (n,), (B,) -> (B, n), (B, n)
    """column^-exponent, and its derivative by the exponent."""
    logs = np.log(np.maximum(column, 1e-300))
    value = np.exp(-exponent[:, None] * logs)
    return value, -logs * value


class PowerForm(Form):
    """E + sum of amplitudes times powers of columns; `columns` are names of features."""

    def __init__(self, law: str, columns: tuple[tuple[str, str, str], ...]) -> None:
        """columns: (amplitude, exponent, feature) of each term."""
        self.law = law
        self.columns = columns
        self.amplitudes = ("E", *(amplitude for amplitude, _, _ in columns))
        self.shapes = tuple(exponent for _, exponent, _ in columns)

    def basis(self, s: Array, x: Features) -> tuple[Array, Array]:
        k = len(self.columns)
        phi = np.ones((len(s), x.count, k + 1))
        slopes = np.zeros((len(s), x.count, k + 1, k))
        for i, (_, _, feature) in enumerate(self.columns):
            phi[:, :, i + 1], slopes[:, :, i + 1, i] = power(x.need(feature, self.law), s[:, i])
        return phi, slopes

    def starts(self, x: Features, y: Array) -> Array:
        return grid(*[EXPONENTS] * len(self.columns))
