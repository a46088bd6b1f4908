"""The scores of this room that rank a pool, found by their cards."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_origin

import equipoise.transferability as room
from equipoise.core.card import Card, cards
from equipoise.core.errors import unknown
from equipoise.transferability.sample import Sample

PROBES = ("KNN", "RidgeProbe", "LogisticProbe")
"""The plain baselines that look at the target."""
COSTLY = ("PACTran",)
"""Scores that are not computed on half-samples unless they decide, beside those that draw."""


@dataclass(frozen=True)
class Scorer:
    """A score by the name on its card: of one sample, or (`whole`) of a pool at once."""

    name: str
    needs: tuple[str, ...]
    function: Callable[..., Any]
    whole: bool = False
    halved: bool = True
    """Whether half-samples suit it: it is cheap, and draws nothing that would add noise of its own."""

    def lacks(self, sample: Sample) -> str:
        """What it needs and the sample has not, in words; empty where it has all."""
        lacking = [what for what in self.needs if not sample.has(what)]
        return f"it needs {' and '.join(lacking)}" if lacking else ""


def scorers(names: str | Iterable[str | Callable[..., float]] = "all") -> list[Scorer]:
    """Scores by name, in any case, as a list or as "a,b"; or functions of a sample; "all" by default.

    Options follow a name as "hscore:shrinkage=true" or "ped:score=logme:reach=0.3"; a `functools.partial` of
    a score is called so too. All are those that take one model's features, labels and probabilities, or a
    pool; scores of sets of sources or of two domains answer other questions. Raises ValueError, with the
    nearest names, for a score or an option that is not among them, and for two functions called alike.

    >>> [scorer.name for scorer in scorers("logme,HSCORE:shrinkage=true")]
    ['LogME', 'HScore:shrinkage=true']
    """
    known = {card.name: scorer for card in cards("transferability").values() if (scorer := _scorer(card))}
    if isinstance(names, str):
        if names == "all":
            return list(known.values())
        names = [name.strip() for name in names.split(",") if name.strip()]
    found: dict[str, Scorer] = {}
    for name in names:
        scorer = _of_function(name, known) if callable(name) else _of_name(name, known)
        key = scorer.name.lower()
        probe = key in (probe.lower() for probe in PROBES) and known.get(scorer.name) != scorer
        if probe or found.get(key, scorer) != scorer:
            raise ValueError(f"two scores are called {scorer.name}; give functions that differ in __name__")
        found[key] = scorer
    if not found:
        raise ValueError(f"no scores are named; known: {', '.join(known)}")
    return list(found.values())


def _of_name(text: str, known: Mapping[str, Scorer]) -> Scorer:
    """A score by name, with options as NAME:OPTION=VALUE:..."""
    name, *given = text.split(":")
    folded = {name.lower(): name for name in known}
    if name.lower() not in folded:
        raise ValueError(unknown("score of one model", name, known))
    scorer = known[folded[name.lower()]]
    if not given:
        return scorer
    own = inspect.signature(scorer.function).parameters.values()
    defaults = {p.name: p.default for p in own if p.kind is p.KEYWORD_ONLY}
    options: dict[str, Any] = {}
    for part in given:
        option, sign, value = part.partition("=")
        if not sign:
            raise ValueError(f"{text}: {part!r} is no option of a score; write NAME:OPTION=VALUE")
        if option not in defaults:
            raise ValueError(f"{text}: {unknown(f'option of {scorer.name}', option, defaults)}")
        options[option] = _value(f"{text}: {option}", value, defaults[option], known)
    return _with(scorer, partial(scorer.function, **options), options)


def _of_function(function: Callable[..., Any], known: Mapping[str, Scorer]) -> Scorer:
    """A score of this room by its card, with the options of partials; else the function as it is called."""
    inner = function
    while isinstance(inner, partial):
        inner = inner.func
    called = getattr(inner, "__name__", type(inner).__name__)
    scorer = next((s for s in known.values() if s.function is inner), Scorer(called, (), inner))
    if not isinstance(function, partial):
        return scorer
    if function.args:
        raise ValueError(f"the partial of {called} fixes arguments by place; give its options by keyword")
    return _with(scorer, function, function.keywords)


def _with(scorer: Scorer, function: Callable[..., Any], options: Mapping[str, Any]) -> Scorer:
    told = "".join(f":{name}={_shown(value)}" for name, value in options.items())
    return replace(scorer, name=scorer.name + told, function=function)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value.__name__ if callable(value) and hasattr(value, "__name__") else str(value)


def _value(what: str, text: str, default: Any, known: Mapping[str, Scorer]) -> Any:
    """The value of an option, as what its default is."""
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{what} is {text!r}; it is true or false")
        return text.lower() == "true"
    if callable(default):
        return _of_name(text, known).function
    if not isinstance(default, int | float | str):
        raise ValueError(f"{what} takes no value in text; give a functools.partial of the score")
    try:
        if isinstance(default, int) and text.lstrip("+-").isdigit():
            return int(text)
        return text if isinstance(default, str) else float(text)
    except ValueError as error:
        raise ValueError(f"{what} is {text!r}, which is no number") from error


def _scorer(card: Card) -> Scorer | None:
    function = getattr(room, card.name.lower(), None) if card.shape == "score" else None
    if function is None:
        return None
    given = inspect.signature(function)
    first = [p for p in given.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    others = [p for p in given.parameters.values() if p not in first]
    if any(p.default is p.empty for p in others):
        return None
    halved = not (card.promises("RANDOM") or card.name in COSTLY)
    match [p.name for p in first]:
        case ["features", "labels", "probabilities"]:
            return Scorer(card.name, card.needs, function, halved=halved)
        case ["pool"] if get_origin(given.return_annotation) is dict:
            return Scorer(card.name, card.needs, function, whole=True, halved=False)
    return None
