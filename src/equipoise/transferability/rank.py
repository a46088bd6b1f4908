"""rank: a pool of models by every score, with the plain baselines beside them and how sure the order is."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from equipoise.core.errors import unknown
from equipoise.transferability.agreement import static_rank
from equipoise.transferability.halves import half
from equipoise.transferability.pool import UNNAMED, Pool, called, check_finite
from equipoise.transferability.ranking import Column, Ranking
from equipoise.transferability.sample import Sample
from equipoise.transferability.scorers import PROBES, Scorer, scorers

Array = np.ndarray
LEADERS = ("LogME", "LEEP", "RidgeProbe")
"""What decides where nobody says: the first of them that has values."""
STATIC_RANK = "static rank"


def rank(
    pool: Mapping[str, Sample],
    *,
    scores: str | Iterable[str | Callable[..., float]] = "all",
    by: str | None = None,
    truth: Mapping[str, float] | None = None,
    static: Mapping[str, Mapping[str, float]] | None = None,
    history: Mapping[str, Mapping[str, float]] | None = None,
    probes: bool = True,
    bootstrap: int = 20,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Ranking:
    """Rank the models of a pool for one target, with plain baselines and the sureness of the order.

    pool: the sample of each model by name; a `Pool` loads one at a time, and no more is ever in memory.
    scores: names as "a,b" or in a list, with options as "hscore:shrinkage=true"; functions of a sample,
    partials among them; or "all". by: the score that decides, by
    default LogME if it is among them, else the first. truth: fine-tuned accuracies, where some are known.
    static: column -> model -> number, higher is better, such as parameters; it joins what the pool knows.
    history: target -> model -> accuracy on other targets, from which the static rank is made. Nearest
    neighbours, ridge and logistic regression stand beside the scores unless `probes` is false.

    bootstrap: half-samples of the target, `halves.half`, on which cheap scores and the one that decides are
    computed anew, which costs about bootstrap / 2 times these scores; 0 for none. Scores that draw (NLEEP,
    PARC, LogisticProbe), take many steps (PACTran) or look at the whole pool (ETran) are not.
    A score that a sample has not the parts for, or that fails on it, leaves a gap and a reason by name; so do
    all scores of a model whose sample does not load. The others are ranked as if it were not there.

    Raises ValueError for an empty pool, models whose labels differ, unknown names, numbers that are not
    finite, a static column called as a score, and where no score has a value for any model.

    >>> x, y = np.random.default_rng(0).standard_normal((60, 3)), np.arange(60) % 2
    >>> pool = {"noise": Sample(x, y), "told": Sample(x + 2 * y[:, None], y)}
    >>> rank(pool, scores="logme,gbc").order()
    ['told', 'noise']
    """
    if not pool:
        raise ValueError("the pool holds no models")
    if bootstrap < 0:
        raise ValueError(f"bootstrap must be 0 or more half-samples, got {bootstrap}")
    names = tuple(pool)
    chosen = scorers(scores)
    if probes:
        chosen = [s for s in chosen if s.name not in PROBES] + scorers(PROBES)
    known = {**getattr(pool, "static", {}), **(static or {})}
    if history:
        ranks = static_rank(history)
        known[STATIC_RANK] = {name: ranks[name] for name in names if name in ranks}
    check_given(names, [s.name for s in chosen], by, truth or {}, static or {}, history or {}, known)
    scored = {s.name.lower(): s.name for s in chosen}
    decides = scored.get((by or _default(chosen)).lower())
    work = _Work(names, chosen, decides, bootstrap, seed)
    for name in names:
        if progress is not None:
            progress(name)
        work.look(name, pool)
    for scorer in chosen:
        if scorer.whole:
            work.together(scorer, pool)
    columns = work.columns()
    columns += [
        Column(fact, "static", {n: float(v) for n, v in found.items() if n in names}, {}, {})
        for fact, found in known.items()
    ]
    leader = _leader(columns, by)
    return Ranking(names, tuple(columns), leader, dict(truth or {}), work.samples, work.shared)


def check_given(
    names: Collection[str] | None,
    scored: Sequence[str],
    by: str | None,
    truth: Mapping[str, float],
    static: Mapping[str, Mapping[str, float]],
    history: Mapping[str, Mapping[str, float]],
    known: Collection[str] | Mapping[str, Mapping[str, float]],
) -> None:
    """Raise ValueError, by name, for what `rank` could not use; models are not checked where names is None.

    scored: names of scores and probes. known: static columns, with the numbers of those that have some.
    """
    given = {"truth": truth, **{f"static {fact!r}": found for fact, found in static.items()}}
    for option, found in given.items():
        if lost := [name for name in found if names is not None and name not in names]:
            raise ValueError(f"{option}: {unknown('model', lost[0], names or ())}")
    told = {f"static {fact!r}": found for fact, found in known.items()} if isinstance(known, Mapping) else {}
    given = {f"history, {target!r}": found for target, found in history.items()} | given | told
    for option, found in given.items():
        check_finite(option, found)
    scores = {name.lower(): name for name in scored}
    if taken := [fact for fact in known if fact.lower() in scores]:
        raise ValueError(f"static {taken[0]!r} is called as the score {scores[taken[0].lower()]}; rename it")
    if by is not None and by.lower() not in {*scores, *(fact.lower() for fact in known)}:
        raise ValueError(unknown("column", by, (*known, *scored)))


class _Work:
    """What is found, model after model."""

    def __init__(
        self, names: Sequence[str], chosen: Sequence[Scorer], by: str | None, bootstrap: int, seed: int
    ) -> None:
        self.names, self.chosen, self.bootstrap, self.seed = tuple(names), chosen, bootstrap, seed
        self.values: dict[str, dict[str, float]] = {s.name: {} for s in chosen}
        self.faults: dict[str, dict[str, str]] = {s.name: {} for s in chosen}
        self.seconds: dict[str, dict[str, float]] = {s.name: {} for s in chosen}
        self.halves = {
            s.name: np.full((bootstrap, len(names)), np.nan)
            for s in chosen
            if s.halved or (s.name == by and not s.whole)
        }
        self.shared: dict[str, float] = {}
        self.samples = 0
        self._labels: tuple[str, Array] | None = None

    def look(self, name: str, pool: Mapping[str, Sample]) -> None:
        """All scores of one model, then those on its half-samples."""
        try:
            sample = _sample(pool, name)
        except Exception as error:  # one model does not end the run
            for faults in self.faults.values():
                faults[name] = _fault(error, name)
            return
        self._check_labels(name, sample)
        fit: list[Scorer] = []
        for scorer in self.chosen:
            if lack := scorer.lacks(sample):
                self.faults[scorer.name][name] = f"not applicable: {lack}"
            elif not scorer.whole:
                fit.append(scorer)
        start = perf_counter()
        _share(sample, fit)
        self.shared[name] = perf_counter() - start
        for scorer in fit:
            start = perf_counter()
            value = _value(scorer, sample)
            self.seconds[scorer.name][name] = perf_counter() - start
            self._note(scorer, name, value)
        cheap = [s for s in fit if s.name in self.halves and name in self.values[s.name]]
        for b in range(self.bootstrap if cheap and sample.has("labels") else 0):
            part = half(sample, (self.seed, b))
            _share(part, cheap)
            for scorer in cheap:
                value = _value(scorer, part)
                if isinstance(value, float):
                    self.halves[scorer.name][b, self.names.index(name)] = value

    def together(self, scorer: Scorer, pool: Mapping[str, Sample]) -> None:
        """A score of the pool as a whole, over the models that have what it needs."""
        fit = [name for name in self.names if name not in self.faults[scorer.name]]
        if not fit:
            return
        start = perf_counter()
        try:
            found = _together(scorer, pool, fit)
        except Exception:  # one model does not take the others along
            alone = {name: _alone(scorer, pool, name) for name in fit}
            for name, fault in alone.items():
                if fault:
                    self._note(scorer, name, fault)
            fit = [name for name in fit if not alone[name]]
            try:
                found = _together(scorer, pool, fit)
            except Exception as error:  # one score does not end the run
                found = dict.fromkeys(fit, _fault(error))
        took = (perf_counter() - start) / max(len(fit), 1)
        for name in fit:
            self.seconds[scorer.name][name] = took
            self._note(scorer, name, found.get(name, "the score of the pool leaves it out"))

    def columns(self) -> list[Column]:
        """Scores, then probes."""
        found = []
        for scorer in self.chosen:
            halves = self.halves.get(scorer.name)
            found.append(
                Column(
                    scorer.name,
                    "probe" if scorer.name in PROBES else "score",
                    self.values[scorer.name],
                    self.faults[scorer.name],
                    self.seconds[scorer.name],
                    halves if halves is not None and np.isfinite(halves).any() else None,
                )
            )
        return found

    def _note(self, scorer: Scorer, name: str, value: float | str) -> None:
        if isinstance(value, str):
            self.faults[scorer.name][name] = value
        elif not np.isfinite(value):
            self.faults[scorer.name][name] = f"its value is {value}"
        else:
            self.values[scorer.name][name] = value

    def _check_labels(self, name: str, sample: Sample) -> None:
        if not sample.has("labels"):
            return
        labels = sample.classes[sample.labels] if sample.is_classes else sample.targets()
        if self._labels is None:
            self._labels, self.samples = (name, labels), len(labels)
        first, other = self._labels
        if len(labels) != len(other):
            raise ValueError(
                f"{first} has {len(other)} samples and {name} {len(labels)}; a pool is ranked on one target"
            )
        differs = (labels != other).reshape(len(labels), -1).any(1)
        if differs.any():
            raise ValueError(
                f"the label of sample {int(differs.argmax())} is {other[differs][0]} for {first} and "
                f"{labels[differs][0]} for {name}; a pool is ranked on one target, its samples in one order"
            )


def _sample(pool: Mapping[str, Sample], name: str) -> Sample:
    found = pool[name]
    if not isinstance(found, Sample):
        raise ValueError(f"{name}: a pool maps names to Sample(features, labels), not {type(found).__name__}")
    return called(found, name)


def _share(sample: Sample, fit: Sequence[Scorer]) -> None:
    """Make what several scores use, so that no single one is charged for it; faults show in the scores."""
    if sum("features" in scorer.needs for scorer in fit) > 1 and sample.has("labels"):
        try:
            _ = sample.moments.spectrum
        except Exception:  # the scores meet it again, and tell
            return


def _value(scorer: Scorer, sample: Sample) -> float | str:
    """The score, or why there is none."""
    try:
        return float(scorer.function(sample))
    except Exception as error:  # one score does not end the run
        return _fault(error, sample.name)


def _together(scorer: Scorer, pool: Mapping[str, Sample], names: Sequence[str]) -> dict[str, Any]:
    """A score of the pool of these models."""
    if not names:
        return {}
    given = Pool({name: lambda name=name: _sample(pool, name) for name in names})
    return {name: float(value) for name, value in scorer.function(given).items()}


def _alone(scorer: Scorer, pool: Mapping[str, Sample], name: str) -> str:
    """Why a model fails in a pool of its own; empty where it does not."""
    try:
        _together(scorer, pool, [name])
    except Exception as error:
        return _fault(error, name)
    return ""


def _fault(error: Exception, name: str = "") -> str:
    """The error in one line, without the name of the model at its head."""
    words = " ".join(str(error).split()).removeprefix(f"{name}: ").removeprefix(f"{UNNAMED}: ")
    return words if isinstance(error, ValueError) and words else f"{type(error).__name__}: {words}"


def _leader(columns: Sequence[Column], by: str | None) -> str:
    usable = [column.name for column in columns if column.values]
    folded = {name.lower(): name for name in usable}
    if by is not None:
        if by.lower() not in folded:
            faults = next((c.faults for c in columns if c.name.lower() == by.lower()), {})
            why = next(iter(faults.items()), None)
            reason = f"{by} has no value, for {why[0]}: {why[1]}" if why else unknown("column", by, usable)
            raise ValueError(f"by: {reason}")
        return folded[by.lower()]
    for kind in ("score", "probe"):
        looking = [column.name for column in columns if column.values and column.kind == kind]
        if looking:
            return next((name for name in LEADERS if name in looking), looking[0])
    faults = [f"{c.name}, {name}: {why}" for c in columns for name, why in c.faults.items()]
    raise ValueError(f"no score has a value for any model; the first: {faults[0] if faults else 'none'}")


def _default(chosen: Sequence[Scorer]) -> str:
    """What would decide if all had values."""
    names = [scorer.name for scorer in chosen if scorer.name not in PROBES] or [s.name for s in chosen]
    return next((name for name in LEADERS if name in names), names[0])
