"""Downstream: a score of a task after fine-tuning, told from pre-training tokens."""

from dataclasses import dataclass

import numpy as np

from equipoise.core.card import Card
from equipoise.scaling.form import Array, Form, grid
from equipoise.scaling.law import Law
from equipoise.scaling.powerform import PowerForm
from equipoise.scaling.runs import Features

CARD = Card(
    name="Downstream",
    shape="law",
    summary="A translation score or loss after fine-tuning, told from the tokens of pre-training.",
    formula="score = (log(A D^alpha))^beta, loss = E + A / D^alpha",
    title="Scaling Laws for Downstream Task Performance of Large Language Models",
    authors=(
        "Berivan Isik",
        "Natalia Ponomareva",
        "Hussein Hazimeh",
        "Dimitris Paparas",
        "Sergei Vassilvitskii",
        "Sanmi Koyejo",
    ),
    venue="arXiv",
    year=2024,
    arxiv="2402.04177",
    single="one score",
    cost="a grid of a few hundred points, and five polished ends",
    use="pre-training data that are aligned with the task",
    avoid="data that are not: scores then go up and down while the loss falls",
    status="experimental",
)


class LogForm(Form):
    """(log A + alpha log D)^beta."""

    shapes = ("logA", "alpha", "beta")
    signed = frozenset({"logA"})

    def basis(self, s: Array, x: Features) -> tuple[Array, Array]:
        logs = np.log(x.need("D", "Downstream"))
        inner = np.maximum(s[:, 0, None] + s[:, 1, None] * logs, 1e-6)
        value = inner ** s[:, 2, None]
        common = s[:, 2, None] * value / inner
        slopes = np.stack([common, common * logs, np.log(inner) * value], 2)
        return value[:, :, None], slopes[:, :, None]

    def starts(self, x: Features, y: Array) -> Array:
        logs, found = np.log(x.need("D", "Downstream")), []
        for beta in np.geomspace(0.3, 6.0, 24):
            slope, at = np.polyfit(logs, y ** (1 / beta), 1)
            found.append([at, max(slope, 1e-4), beta])
        return np.array(found)


class LossForm(PowerForm):
    """E + A D^-alpha."""

    def starts(self, x: Features, y: Array) -> Array:
        return grid(np.geomspace(0.02, 2.0, 48))


@dataclass(frozen=True)
class Downstream(Law):
    """For a score such as BLEU (log(A D^alpha))^beta, for a cross-entropy E + A D^-alpha; D of pre-training.

    score: True for the first. The column of losses then holds scores, higher being better. Coefficients:
    logA, alpha, beta, or E, A, alpha.

    Source: Isik et al. 2024, equations 1 and 2.
    """

    score: bool = True

    def form(self, x: Features, own: int) -> Form:
        return LogForm() if self.score else LossForm(self.name, (("A", "alpha", "D"),))
