"""influence: what each run has to say in a fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from equipoise.scaling.fittedlaw import FittedLaw
from equipoise.scaling.form import refitted
from equipoise.scaling.runs import Array
from equipoise.scaling.single import FormSingle


@dataclass(frozen=True, slots=True)
class Influence:
    """What leaving out each run does to the fit of one loss.

    runs: their names, (n,). moved: the mean absolute relative change of the predictions of all runs, (n,).
    coefficients: {name: change, (n,)}, without the run less with it.
    """

    objective: str
    runs: tuple[str, ...]
    moved: Array
    coefficients: dict[str, Array]

    def most(self, count: int = 5) -> list[tuple[str, float]]:
        """The runs that move the predictions most, and by how much."""
        order = np.argsort(-self.moved)[:count]
        return [(self.runs[place], float(self.moved[place])) for place in order]

    def plain(self, count: int = 5) -> list[dict[str, Any]]:
        """The first few as plain JSON values."""
        return [{"run": name, "moved": moved} for name, moved in self.most(count)]

    def __str__(self) -> str:
        lines = [f"{self.objective}: without a run the predictions move by"]
        return "\n".join([*lines, *(f"  {name:20} {100 * moved:.3f}%" for name, moved in self.most())])


def influence(law: FittedLaw, objectives: Sequence[str] | None = None) -> dict[str, Influence]:
    """Leave out each run in turn, and follow the fit to its new end: {loss: `Influence`}.

    objectives: of which losses, all by default. A run is all rows of one name in the column "run". All ends
    are followed together, from that of the whole table; a law that is no form of few numbers (trees, linear
    mixing, utility) is left out.

    Raises ValueError where none of the losses has such a law.
    """
    found = {}
    for objective in law.objectives if objectives is None else objectives:
        single = law.singles[objective]
        if not isinstance(single, FormSingle):
            continue
        used = law.used[objective]
        x, y = law.runs.features.take(used.rows), law.runs.loss(objective)[used.rows]
        names, place = np.unique([law.runs.run[row] for row in used.rows], return_inverse=True)
        weights = 1.0 - np.eye(len(names))[:, place]
        thetas = refitted(single.form, x, y, single.theta, weights, delta=used.delta)
        held, without = single.predict(x), single.form.predict(thetas, x)
        changes = (thetas - single.theta).T
        found[objective] = Influence(
            objective,
            tuple(map(str, names)),
            np.abs(without / held - 1).mean(1),
            dict(zip(single.form.names, changes, strict=True)),
        )
    if not found:
        raise ValueError(f"{law.law.name} is no form of few numbers; its runs cannot be left out one by one")
    return found
