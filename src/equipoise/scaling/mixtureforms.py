"""Forms in the mixture: what a loss makes of its own ratio, of its own tokens, of everybody's tokens."""

import numpy as np
from scipy.optimize import nnls

from equipoise.scaling.form import Array, Form, grid
from equipoise.scaling.powerform import EXPONENTS, power
from equipoise.scaling.repeateddata import effective
from equipoise.scaling.runs import Features

COARSE = np.geomspace(0.03, 1.0, 8)
RIDGE = 5e-7
"""How strongly logarithms of transfers are drawn to their mean, beside a sum of Huber losses of any number.

By four-fold cross-validation on RegMix's runs for training: from 3e-7 to 1e-6 the error is within 4% of the
least for 32 to 512 runs, and for 24 less is better, as 3e-6 doubles it there.
"""


def millions(x: Features) -> Array:  # -> (n,)
    """Millions of tokens; 1 where they are not told."""
    return np.ones(x.count) if x.D is None else x.D / 1e6


class OwnForm(Form):
    """A form that looks at one column of the mixture; `law` is named in errors."""

    def __init__(self, law: str, own: int) -> None:
        self.law = law
        self.own = own

    def ratio(self, x: Features) -> Array:  # -> (n,)
        """The own ratio."""
        return x.need("p", self.law)[:, self.own]


class FamilyForm(OwnForm):
    """(E + A N^-alpha + B D^-beta) p^-gamma; terms of what does not vary are left out."""

    def __init__(self, law: str, own: int, terms: tuple[tuple[str, str, str], ...]) -> None:
        super().__init__(law, own)
        self.terms = terms
        self.amplitudes = ("E", *(amplitude for amplitude, _, _ in terms))
        self.shapes = (*(exponent for _, exponent, _ in terms), "gamma")

    def basis(self, s: Array, x: Features) -> tuple[Array, Array]:
        own, by_gamma = power(self.ratio(x), s[:, -1])
        k = len(self.terms)
        phi = np.ones((len(s), x.count, k + 1))
        slopes = np.zeros((len(s), x.count, k + 1, k + 1))
        for i, (_, _, feature) in enumerate(self.terms):
            phi[:, :, i + 1], slopes[:, :, i + 1, i] = power(x.need(feature, self.law), s[:, i])
        slopes[:, :, :, :k] *= own[:, :, None, None]
        slopes[:, :, :, k] = phi * by_gamma[:, :, None]
        return phi * own[:, :, None], slopes

    def starts(self, x: Features, y: Array) -> Array:
        return grid(*[EXPONENTS[::2]] * len(self.terms), np.geomspace(0.01, 1.0, 12))


class OwnTokensForm(OwnForm):
    """E + A N^-alpha + B (p D)^-beta; without D, p alone."""

    def __init__(self, law: str, own: int, with_size: bool) -> None:
        super().__init__(law, own)
        self.with_size = with_size
        self.amplitudes = ("E", "B", "A") if with_size else ("E", "B")
        self.shapes = ("beta", "alpha") if with_size else ("beta",)

    def basis(self, s: Array, x: Features) -> tuple[Array, Array]:
        tokens = self.ratio(x) * (1.0 if x.D is None else x.D)
        k = len(self.shapes)
        phi = np.ones((len(s), x.count, k + 1))
        slopes = np.zeros((len(s), x.count, k + 1, k))
        phi[:, :, 1], slopes[:, :, 1, 0] = power(tokens, s[:, 0])
        if self.with_size:
            phi[:, :, 2], slopes[:, :, 2, 1] = power(x.need("N", self.law), s[:, 1])
        return phi, slopes

    def starts(self, x: Features, y: Array) -> Array:
        return grid(*[EXPONENTS] * len(self.shapes))


class DoublePowerForm(OwnForm):
    """M + K p^-alpha + (Q D^gamma + R) p^beta: the own loss falls with its ratio, and rises where it
    overfits."""

    amplitudes = ("M", "K", "R", "Q")
    shapes = ("alpha", "beta", "gamma")

    def basis(self, s: Array, x: Features) -> tuple[Array, Array]:
        p = self.ratio(x)
        tokens = millions(x)
        phi = np.ones((len(s), x.count, 4))
        slopes = np.zeros((len(s), x.count, 4, 3))
        phi[:, :, 1], slopes[:, :, 1, 0] = power(p, s[:, 0])
        rising, by_beta = power(p, -s[:, 1])
        more, by_gamma = power(tokens, -s[:, 2])
        phi[:, :, 2], slopes[:, :, 2, 1] = rising, -by_beta
        phi[:, :, 3] = rising * more
        slopes[:, :, 3, 1], slopes[:, :, 3, 2] = -by_beta * more, -rising * by_gamma
        return phi, slopes

    def starts(self, x: Features, y: Array) -> Array:
        return grid(COARSE, np.geomspace(0.2, 8.0, 8), (0.3, 1.0, 2.0))


class DCPTForm(OwnForm):
    """E + A N^-alpha + B r^eta D^-beta + C (r + eps)^-gamma."""

    amplitudes = ("E", "A", "B", "C")
    shapes = ("alpha", "eta", "beta", "eps", "gamma")

    def basis(self, s: Array, x: Features) -> tuple[Array, Array]:
        r = self.ratio(x)
        phi = np.ones((len(s), x.count, 4))
        slopes = np.zeros((len(s), x.count, 4, 5))
        phi[:, :, 1], slopes[:, :, 1, 0] = power(x.need("N", self.law), s[:, 0])
        logs = np.log(np.maximum(r, 1e-12))
        own = np.exp(s[:, 1, None] * logs)
        tokens, by_beta = power(x.need("D", self.law), s[:, 2])
        phi[:, :, 2] = own * tokens
        slopes[:, :, 2, 1], slopes[:, :, 2, 2] = logs * own * tokens, own * by_beta
        shifted = r + s[:, 3, None]
        phi[:, :, 3] = shifted ** -s[:, 4, None]
        slopes[:, :, 3, 3] = -s[:, 4, None] * phi[:, :, 3] / shifted
        slopes[:, :, 3, 4] = -np.log(shifted) * phi[:, :, 3]
        return phi, slopes

    def starts(self, x: Features, y: Array) -> Array:
        few = np.array([0.08, 0.3, 0.8])
        alpha = few if x.N is not None and np.ptp(np.log(x.N)) > 0 else few[:1]
        return grid(alpha, (0.1, 0.5), few, (0.01, 0.1), few)


class CMRForm(OwnForm):
    """a R^s + b, s of either sign."""

    amplitudes = ("b", "a")
    shapes = ("s",)
    signed = frozenset({"s"})

    def basis(self, s: Array, x: Features) -> tuple[Array, Array]:
        value, slope = power(self.ratio(x), -s[:, 0])
        phi = np.stack([np.ones_like(value), value], 2)
        slopes = np.stack([np.zeros_like(value), -slope], 2)[..., None]
        return phi, slopes

    def starts(self, x: Features, y: Array) -> Array:
        return np.concatenate([-EXPONENTS, EXPONENTS])[:, None]


class ExpMixForm(Form):
    """c + exp(sum_j t_j p_j). The factor k of the sum is in the t_j, as the p_j sum to 1."""

    amplitudes = ("c",)

    def __init__(self, law: str, sources: tuple[str, ...]) -> None:
        self.law = law
        self.shapes = tuple(f"t.{name}" for name in sources)
        self.signed = frozenset(self.shapes)

    def basis(self, s: Array, x: Features) -> tuple[Array, Array]:
        p = x.need("p", self.law)
        value = np.exp(np.clip(s @ p.T, -50, 50))
        phi = np.stack([np.ones_like(value), value], 2)
        slopes = np.zeros((*phi.shape, s.shape[1]))
        slopes[:, :, 1] = value[..., None] * p
        return phi, slopes

    def starts(self, x: Features, y: Array) -> Array:
        p, found = x.need("p", self.law), []
        for part in (0.0, 0.5, 0.9):
            logs = np.log(y - part * y.min())
            few = np.sqrt(1e-3) * np.eye(p.shape[1])
            # towards the mean, so that a source that no run has says nothing
            target = np.concatenate([logs, few.diagonal() * logs.mean()])
            found.append(np.linalg.lstsq(np.concatenate([p, few]), target, rcond=None)[0])
        return np.array(found)

    def penalty(self, n: int) -> Array:
        k = len(self.shapes)
        found = np.zeros((k + 1, k + 1))
        found[1:, 1:] = 1e-8 * (np.eye(k) - 1 / k)
        return found


class EffectiveForm(Form):
    """E + A N^-alpha + (D sum_j tau_j p_j)^-beta: every source's tokens count, tau_j of each.

    The factor B is in the tau_j; so is a constant besides, as the p_j sum to 1. Without D, the sum alone.
    repetitions: how many are worth anything, where repeated tokens are to count less and less.
    """

    def __init__(
        self, law: str, sources: tuple[str, ...], with_size: bool, repetitions: float | None = None
    ) -> None:
        self.law = law
        self.with_size = with_size
        self.repetitions = repetitions
        self.amplitudes = ("E", "A") if with_size else ("E",)
        taus = tuple(f"tau.{name}" for name in sources)
        self.shapes = (*taus, "beta", "alpha") if with_size else (*taus, "beta")
        self.width = len(taus)

    def basis(self, s: Array, x: Features) -> tuple[Array, Array]:
        tokens, m = self.tokens(x), self.width
        seen = np.maximum(s[:, :m] @ tokens.T, 1e-300)
        beta = s[:, m, None]
        value = seen**-beta
        k = len(self.amplitudes)
        phi = np.ones((len(s), x.count, k + 1))
        slopes = np.zeros((len(s), x.count, k + 1, s.shape[1]))
        phi[:, :, k] = value
        slopes[:, :, k, :m] = (-beta * value / seen)[..., None] * tokens
        slopes[:, :, k, m] = -np.log(seen) * value
        if self.with_size:
            phi[:, :, 1], slopes[:, :, 1, m + 1] = power(x.need("N", self.law), s[:, m + 1])
        return phi, slopes

    def tokens(self, x: Features) -> Array:  # -> (n, k)
        """Millions of tokens of each source, as far as they count; ratios without D."""
        found = x.need("p", self.law) * millions(x)[:, None]
        if self.repetitions is None:
            return found
        x.need("D", self.law)
        return effective(found, x.need("U", self.law) / 1e6, np.asarray(self.repetitions))

    def starts(self, x: Features, y: Array) -> Array:
        tokens, found = self.tokens(x), []
        for part, beta in ((0.0, 0.1), (0.3, 0.2), (0.6, 0.4)):
            target = (y - part * y.min()) ** (-1 / beta)
            # errors of the target are those of the logarithm of the loss, times this
            scale = np.abs(target) / beta
            tau, _ = nnls(tokens / scale[:, None], target / scale)
            tau = np.maximum(tau, 0.02 * tau.max())
            found.append([*tau, beta, *([0.3] if self.with_size else [])])
        return np.array(found)

    def penalty(self, n: int) -> Array:
        k, m = len(self.amplitudes), self.width
        size = k + len(self.shapes)
        found = np.zeros((size, size))
        found[k : k + m, k : k + m] = RIDGE * (np.eye(m) - 1 / m)
        return found
