"""MergeFront: the trade-offs of merged models, predicted and measured, and the way back to a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from equipoise.core.errors import unknown
from equipoise.core.front import By, Front
from equipoise.core.objectives import Preference
from equipoise.merging.merge import Model, merge
from equipoise.merging.mergerule import MergeRule
from equipoise.merging.surrogate import Surrogate

Of = Literal["predicted", "measured"]


@dataclass(frozen=True)
class Choice:
    """One merged model of a front: its weights by model, and its metrics, predicted or measured."""

    coefficients: Mapping[str, float]
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class MergeFront:
    """What MAP found: fronts over the merging weights, how far to trust them, and a model for a preference.

    names: the m models. surrogate: the fit. `predicted` and `measured` are fronts of the project, of losses:
    a metric of which higher is better stands there with its sign turned, as "-accuracy"; each solution holds
    its "weights" (m,). A predicted metric is as good as `error` says, and may leave its range.
    """

    names: tuple[str, ...]
    surrogate: Surrogate
    points: int
    checkpoints: Mapping[str, Model] | Sequence[Model]
    base: Model | None
    method: Any
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The t metrics."""
        return self.surrogate.metrics

    @property
    def error(self) -> dict[str, float]:
        """Metric -> leave-one-out error of its surrogate over the spread of the metric."""
        return dict(zip(self.metrics, self.surrogate.error.tolist(), strict=True))

    @property
    def evaluated(self) -> int:
        """How many merged models were evaluated."""
        return len(self.surrogate.values)

    @cached_property
    def predicted(self) -> Front:
        """The front of the surrogates, at preferences spread over the simplex."""
        found = self.surrogate.quadratic.front(self.points)
        return self._front(
            torch.stack([one["input"] for one in found.solutions]), None, found.weights, found.record
        )

    @cached_property
    def measured(self) -> Front:
        """The evaluated places with their own metrics."""
        record = {"solver": "MAP, evaluated places"}
        return self._front(self.surrogate.quadratic.inputs, self.surrogate.values, None, record)

    def pick(self, preference: Preference = None, *, by: By = "tchebycheff", of: Of = "predicted") -> Choice:
        """The weights that suit a preference over the metrics best, as `Front.pick` finds them.

        preference: a number for each metric, in their order or by name; what weighs more is to be better.
        of: "predicted" chooses from all weights by the surrogates, "measured" from the evaluated ones.
        """
        if of not in ("predicted", "measured"):
            raise ValueError(unknown("front", of, ("predicted", "measured")))
        front: Front = getattr(self, of)
        if isinstance(preference, Mapping):
            known = dict(zip(self.metrics, front.names, strict=True))
            for name in preference:
                if name not in known:
                    raise ValueError(unknown("metric", name, known))
            preference = {known[name]: value for name, value in preference.items()}
        picked = front.pick(preference, by=by)
        assert picked.solution is not None
        values = (front.points[picked.place] * self.surrogate.signs).tolist()
        return Choice(
            dict(zip(self.names, picked.solution["weights"].tolist(), strict=True)),
            dict(zip(self.metrics, values, strict=True)),
        )

    def rule(self, choice: Choice | Mapping[str, float]) -> MergeRule:
        """The merging rule with the weights of a choice."""
        weights = choice.coefficients if isinstance(choice, Choice) else choice
        return self.method(weight=dict(weights))

    def merge(
        self,
        preference: Preference = None,
        *,
        by: By = "tchebycheff",
        of: Of = "predicted",
        **options: Any,
    ) -> dict[str, Tensor]:
        """The merged model for a preference, written to `out` or given back.

        options: of `merge`, where they are to differ from those that the evaluated models were merged with.
        """
        rule = self.rule(self.pick(preference, by=by, of=of))
        return merge(self.checkpoints, self.base, method=rule, **{**self.options, **options})

    def _front(
        self, places: Tensor, values: Tensor | None, wishes: Tensor | None, record: Mapping[str, Any]
    ) -> Front:
        values = self.surrogate.predict(places) if values is None else values
        error = [one if one != float("inf") else None for one in self.surrogate.error.tolist()]
        solutions = [{"weights": place.clone()} for place in places]
        facts = {**record, "error": error, "models": list(self.names), "evaluated": self.evaluated}
        names = self.surrogate.quadratic.names
        return Front(names, values * self.surrogate.signs, wishes, solutions, facts)
