"""MAP: the front of trade-offs over merging weights, from few evaluations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.errors import unknown
from equipoise.core.quadratic import design, needed
from equipoise.merging.evaluationlog import EvaluationLog
from equipoise.merging.merge import Model, carry_out, opened, prepare
from equipoise.merging.mergefront import MergeFront
from equipoise.merging.mergerule import MergeRule
from equipoise.merging.provenance import digest
from equipoise.merging.source import Checkpoint, open_model
from equipoise.merging.statistics import fingerprint
from equipoise.merging.surrogate import Better, Link, Surrogate, check_shares, fitted
from equipoise.merging.taskarithmetic import TaskArithmetic

CARD = Card(
    name="MAP",
    shape="system",
    summary="Fits a quadratic to each metric over the merging weights, and finds the front of these",
    formula="metric_t(c) ~ e_t + b_t'c + c'A_t c, theta(c) = theta_0 + sum_i c_i (theta_i - theta_0)",
    title="MAP: Low-compute Model Merging with Amortized Pareto Fronts via Quadratic Approximation",
    authors=(
        "Lu Li",
        "Tianyu Zhang",
        "Zhiqi Bu",
        "Suyuchen Wang",
        "Huan He",
        "Jie Fu",
        "Yonghui Wu",
        "Jiang Bian",
        "Yong Chen",
        "Yoshua Bengio",
    ),
    venue="ICLR",
    year=2025,
    arxiv="2406.07529",
    cost="a few times 1 + m + m(m + 1)/2 merged models, each evaluated once; no gradient",
    use="two to some six models; many preferences; metrics cheap enough to evaluate dozens of times",
    avoid="many models: places grow with m squared; metrics that jump",
    single="the scale of one task vector that each metric likes best",
    status="experimental",
    evidence="map_front",
)

BEARING = ("dtype", "precision", "on_missing", "vocab")
"""Options of `merge` that bear on the values of the merged model."""

Metrics = Mapping[str, float]
Method = Callable[..., MergeRule]


@dataclass(frozen=True)
class MAP:
    """Finds the trade-offs between metrics of merged models over their weights c, from few evaluations.

    Merged models at a design of places c in [`low`, `high`]^m are evaluated; each metric gets a quadratic in
    c, and the front of the quadratics is found. A share `refine` of the `evaluations` (by default three
    times as many as a quadratic needs) goes, one by one, to the place of the predicted front where the
    fit is least certain, after which it is fitted anew.

    method: called with weight={model: c} it gives the merging rule. better: "higher" or "lower", for all
    metrics or by name. link: "sigmoid" fits sigmoid(quadratic) to metrics in [0, 1], as the authors do for
    accuracies; "none" the quadratic itself. points: of the predicted front. seed: of the design.

    Use it where many preferences are to be served from few evaluations. Not with many models.

    Raises ValueError for options out of range, and where metrics change their names or are not finite.

    Source: Li et al., ICLR 2025, algorithm 1. Ours are the design, the refinement, the search along
    preferences in the place of an evolutionary one, and weights within [0, 1] by default.

    >>> import torch
    >>> base, models = {"w": torch.zeros(2)}, {"a": {"w": torch.eye(2)[0]}, "b": {"w": torch.eye(2)[1]}}
    >>> losses = lambda state: {n: float((state["w"] - models[n]["w"]).square().sum()) for n in models}
    >>> found = MAP(better="lower", points=3).trade_offs(models, base, losses)
    >>> {name: round(c, 2) for name, c in found.pick({"a": 0.5, "b": 0.5}).coefficients.items()}
    {'a': 0.5, 'b': 0.5}
    """

    method: Method = TaskArithmetic
    evaluations: int | None = None
    low: float = 0.0
    high: float = 1.0
    refine: float = 0.25
    better: Better | Mapping[str, Better] = "higher"
    link: Link = "none"
    points: int = 21
    seed: int = 0

    def __post_init__(self) -> None:
        if self.evaluations is not None and self.evaluations < 1:
            raise ValueError(f"MAP: evaluations is {self.evaluations}; it must be at least 1")
        if not 0 <= self.refine < 1:
            raise ValueError(f"MAP: refine is {self.refine}; it is a share of the evaluations, below 1")
        if not self.low < self.high:
            raise ValueError(f"MAP: low is {self.low} and high {self.high}; high must be above low")
        if self.points < 1:
            raise ValueError(f"MAP: points is {self.points}; it must be at least 1")
        if self.link not in get_args(Link):
            raise ValueError(f"MAP: {unknown('link', self.link, get_args(Link))}")
        named = self.better.values() if isinstance(self.better, Mapping) else [self.better]
        if any(way not in get_args(Better) for way in named):
            raise ValueError(f'MAP: better is {self.better!r}; it is "higher" or "lower", or one by metric')

    def trade_offs(
        self,
        checkpoints: Mapping[str, Model] | Sequence[Model],
        base: Model | None,
        evaluate: Callable[[dict[str, Tensor]], Metrics],
        *,
        folder: str | Path | None = None,
        about: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> MergeFront:
        """Evaluate merged models and find the front.

        evaluate(state_dict) -> metric -> value, the same names each time. folder: every evaluation is noted
        in `evaluations.jsonl` there as soon as it is done; a run that was stopped goes on from these, with
        nothing evaluated twice. They hold for the same contents of models, base and statistics, method,
        options of the merging and ends of the box; a folder of others is refused. `about` is what else they
        hang on (the data, the settings of `evaluate`), in plain values, for nobody can read it off a
        function. One merged model is in memory at a time. options: of `merge`, for the models that are
        evaluated and for that which is picked.

        Raises ValueError where `better` names no metric or `link` does not fit one, at the first evaluation;
        for a method that takes no weights of sum zero, before it.
        """
        for name in ("out", "progress"):
            if name in options:
                raise ValueError(f"MAP: {name} is for the model that is picked: found.merge({name}=...)")
        opening = {key: options[key] for key in ("reading", "pickles") if key in options}
        models = opened(checkpoints, **opening)
        names, k = tuple(models), len(models)
        total = 3 * needed(k) if self.evaluations is None else self.evaluations
        facts = self._facts(models, base, options, folder) | {"evaluation": dict(about or {})}
        noted = EvaluationLog(names, facts, folder)
        self._check(noted)
        writing = ("threads", "check", "shard_size", "hashes")
        planning = {key: value for key, value in options.items() if key not in writing}

        def ask(place: Tensor) -> None:
            weights = dict(zip(names, place.tolist(), strict=True))
            rule = self.method(weight=weights)
            plan = prepare(checkpoints, base, method=rule, **planning)
            try:
                state = carry_out(plan, threads=options.get("threads"))
            except ValueError as error:
                if float(place.sum()):
                    raise
                words = f"MAP: {type(rule).__name__} cannot merge at the weights {weights} ({error})"
                raise ValueError(f"{words}; take another method, or a box without a sum of zero") from error
            noted.add(place, evaluate(state))
            self._check(noted)

        first = max(min(total, needed(k)), total - int(self.refine * total))
        places = self.low + (self.high - self.low) * design(k, first, seed=self.seed)
        for place in sorted(places, key=lambda place: bool(place.sum())):  # what may be refused comes first
            if len(noted) < total and not noted.has(place):
                ask(place)
        found = self._fitted(noted)
        while len(noted) < total and (place := found.least_certain(self.points)) is not None:
            ask(place)
            found = self._fitted(noted)
        return MergeFront(names, found, self.points, checkpoints, base, self.method, options)

    def _facts(
        self,
        models: Mapping[str, Checkpoint],
        base: Model | None,
        options: Mapping[str, Any],
        folder: str | Path | None,
    ) -> dict[str, Any]:
        """What evaluations of merged models hang on; nothing is read where they are kept nowhere."""
        if folder is None:
            return {}
        opening = {key: options[key] for key in ("reading", "pickles") if key in options}
        measured = options.get("statistics") or {}
        return {
            "sources": {name: _content(file) for name, file in models.items()},
            "base": None if base is None else _content(open_model(base, "base", **opening)),
            "statistics": {name: _content(open_model(file, name)) for name, file in measured.items()},
            "method": repr(self.method(weight=1.0)),
            "options": {key: str(options[key]) for key in BEARING if options.get(key) is not None},
            "box": [self.low, self.high],
        }

    def _check(self, noted: EvaluationLog) -> None:
        """Refuse what does not fit the metrics, as soon as they are known."""
        if not len(noted):
            return
        for metric in self.better if isinstance(self.better, Mapping) else ():
            if metric not in noted.metrics:
                raise ValueError(f"MAP: better: {unknown('metric', metric, noted.metrics)}")
        for metric in noted.metrics:
            self._way(metric)
        if self.link == "sigmoid":
            check_shares(noted.metrics, noted.values)

    def _fitted(self, noted: EvaluationLog) -> Surrogate:
        better: list[Better] = [self._way(metric) for metric in noted.metrics]
        return fitted(
            noted.metrics,
            noted.places,
            noted.values,
            better=better,
            link=self.link,
            low=self.low,
            high=self.high,
        )

    def _way(self, metric: str) -> Better:
        if not isinstance(self.better, Mapping):
            return self.better
        if metric not in self.better:
            raise ValueError(f"MAP: better does not say whether higher or lower {metric!r} is better")
        return self.better[metric]


def trade_offs(
    checkpoints: Mapping[str, Model] | Sequence[Model],
    base: Model | None,
    evaluate: Callable[[dict[str, Tensor]], Metrics],
    *,
    folder: str | Path | None = None,
    about: Mapping[str, Any] | None = None,
    **options: Any,
) -> MergeFront:
    """The trade-offs of merged models: `MAP(...).trade_offs(...)`, with the options of both."""
    own = {field.name: options.pop(field.name) for field in fields(MAP) if field.name in options}
    return MAP(**own).trade_offs(checkpoints, base, evaluate, folder=folder, about=about, **options)


def _content(checkpoint: Checkpoint) -> list[str]:
    """The SHA-256 of a model: of its files, else of its tensors."""
    return [digest(path, "whole") for path in checkpoint.files] or [fingerprint(checkpoint)]
