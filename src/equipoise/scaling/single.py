"""Single: what a law has learned of one loss."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from equipoise.scaling.form import Array, Form, fitted, refitted
from equipoise.scaling.runs import Features

FLOOR = 1e-6
"""Part of the smallest loss below which an irreducible loss is said not to be identified."""


class Single:
    """The fit of one loss. `draws` are of refits to resampled runs, none where these were not asked for."""

    @property
    def coefficients(self) -> dict[str, float]:
        """The parameters by name."""
        raise NotImplementedError

    def predict(self, x: Features) -> Array:  # -> (n,)
        """The loss."""
        raise NotImplementedError

    def draws(self, x: Features) -> Array:  # -> (B, n)
        """The same by every refit."""
        return np.zeros((0, x.count))

    def spread(self) -> dict[str, float]:
        """The standard deviation of each coefficient over the refits; empty without."""
        return {}

    def flags(self) -> list[str]:
        """What the runs do not tell."""
        return []

    def plain(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"coefficients": self.coefficients, "spread": self.spread()}


@dataclass(eq=False)
class FormSingle(Single):
    """The fit of a `Form`: parameters theta (p,), and of the refits (B, p)."""

    form: Form
    theta: Array
    objective: float
    refits: Array
    least: float
    shares: Array

    @property
    def coefficients(self) -> dict[str, float]:
        """The parameters by name; an amplitude that came to nothing is 0."""
        found = dict(zip(self.form.names, map(float, self.theta), strict=True))
        tiny = FLOOR * self.least
        return {n: 0.0 if n in self.form.amplitudes and v < tiny else v for n, v in found.items()}

    def predict(self, x: Features) -> Array:
        return self.form.predict(self.theta[None], x)[0]

    def draws(self, x: Features) -> Array:
        return self.form.predict(self.refits, x) if len(self.refits) else super().draws(x)

    def spread(self) -> dict[str, float]:
        if not len(self.refits):
            return {}
        return dict(zip(self.form.names, map(float, self.refits.std(0, ddof=1)), strict=True))

    def flags(self) -> list[str]:
        found = []
        for place, (name, value) in enumerate(self.coefficients.items()):
            if name in self.form.amplitudes:
                if value == 0:
                    found.append(f"{name} is not identified in this range: it came to 0")
                elif self.shares[place] < 1e-3:
                    found.append(f"{name} makes less than a thousandth of the loss")
            elif name not in self.form.signed and not 5e-3 < value < 20 and not name.startswith("tau."):
                found.append(f"{name} came to {value:.3g}, at the edge of what is sought")
        if len(self.refits):
            logs = self.form.encoded(self.refits)
            wide = [
                name
                for name, part in zip(self.form.names, logs.std(0), strict=True)
                if name not in self.form.signed and part > 1 and not name.startswith("tau.")
            ]
            found += [f"{name} is known to no better than a factor of 2.7" for name in wide]
        return found

    def plain(self) -> dict[str, Any]:
        return {**super().plain(), "theta": self.theta.tolist(), "refits": self.refits.tolist(),
                "objective": self.objective, "least": self.least, "shares": self.shares.tolist()}  # fmt: skip


def fit_form(form: Form, x: Features, y: Array, *, delta: float, weights: Array) -> FormSingle:
    """The best parameters of a form, and refits under `weights` (B, n) of the rows."""
    theta, objective = fitted(form, x, y, delta=delta)
    refits = refitted(form, x, y, theta, weights, delta=delta) if len(weights) else np.zeros((0, len(theta)))
    return FormSingle(form, theta, objective, refits, float(y.min()), _shares(form, theta, x))


def _shares(form: Form, theta: Array, x: Features) -> Array:  # -> (k,)
    """The largest part that each amplitude's term has in the loss of a row."""
    k = len(form.amplitudes)
    phi, _ = form.basis(theta[None, k:], x)
    terms = phi[0, :, :k] * theta[:k]
    return (terms / form.predict(theta[None], x)[0][:, None]).max(0) if k else np.zeros(0)
