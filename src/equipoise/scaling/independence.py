"""Whether a loss depends on its own ratio alone, or on what the rest is made of, too."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import f

from equipoise.scaling.law import Given
from equipoise.scaling.runs import as_runs


@dataclass(frozen=True, slots=True)
class Independence:
    """F of the variance of log losses between compositions of one own ratio, over that between seeds.

    composition, seed: standard deviations, as parts of the loss. degrees: of freedom of both. p: the
    probability of such an F were nothing but the own ratio to count.
    """

    F: float
    degrees: tuple[int, int]
    p: float
    composition: float
    seed: float

    def __str__(self) -> str:
        verdict = "rejected" if self.p < 0.05 else "not rejected"
        return (
            f"independence {verdict}: F {self.F:.1f} ({self.degrees[0]}, {self.degrees[1]}), p {self.p:.2g}; "
            f"composition moves the loss by {100 * self.composition:.2f}%, a seed by {100 * self.seed:.2f}%"
        )


def independence(runs: Given, *, digits: int = 3) -> dict[str, Independence]:
    """The test for every loss that has a source of its name, and "all" for them together.

    Runs of one own ratio, to `digits`, one N and one D stand together; means of repeats are compared. Runs
    with none of the own source are left out: there the loss depends on the others alone. Losses of one run
    are not independent of each other, so that the p of "all" flatters.

    Raises ValueError without repeated seeds, or where no own ratio has two compositions.
    """
    runs = as_runs(runs)
    x = runs.features
    if x.p is None:
        raise ValueError("the table has no mixture")
    if not runs.repeats():
        raise ValueError("no setting was run with two seeds; their noise is what composition is held against")
    scale = [np.round(np.log(c), 9) for c in (x.N, x.D) if c is not None]
    sums = {}
    for name in [name for name in runs.objectives if name in runs.sources]:
        own = x.p[:, runs.sources.index(name)].round(digits)
        logs = np.where(own > 0, np.log(runs.loss(name)), np.nan)
        sums[name] = _squares(np.stack([own, *scale], 1), runs.mixtures, logs)
    sums = {name: parts for name, parts in sums.items() if parts[1]}
    if not sums:
        raise ValueError("no own ratio was run with two compositions of the rest")
    sums["all"] = tuple(map(sum, zip(*sums.values(), strict=True)))
    return {name: _tested(*parts) for name, parts in sums.items()}


def _squares(settings: np.ndarray, mixtures: np.ndarray, logs: np.ndarray) -> tuple[float, int, float, int]:
    """Sums of squares and degrees of freedom, between compositions and between seeds."""
    between, between_df, within, within_df = 0.0, 0, 0.0, 0
    group = np.unique(settings, axis=0, return_inverse=True)[1].reshape(-1)
    for value in range(group.max() + 1):
        means, counts = [], []
        for mixture in np.unique(mixtures[group == value]):
            part = logs[(group == value) & (mixtures == mixture)]
            part = part[np.isfinite(part)]
            if len(part):
                within += float(((part - part.mean()) ** 2).sum())
                within_df += len(part) - 1
                means.append(part.mean())
                counts.append(len(part))
        if len(means) > 1:
            centre = np.average(means, weights=counts)
            between += float((np.array(counts) * (np.array(means) - centre) ** 2).sum())
            between_df += len(means) - 1
    return between, between_df, within, within_df


def _tested(between: float, between_df: int, within: float, within_df: int) -> Independence:
    ratio = (between / between_df) / (within / within_df) if within > 0 else float("inf")
    return Independence(
        ratio,
        (between_df, within_df),
        float(f.sf(ratio, between_df, within_df)),
        (between / between_df) ** 0.5,
        (within / within_df) ** 0.5,
    )
