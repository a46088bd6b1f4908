"""greedy_soup: the average of the models that do not lower a held-out score."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from math import isnan
from pathlib import Path
from typing import Any

from torch import Tensor

from equipoise.core.card import Card
from equipoise.merging.average import Average
from equipoise.merging.claim import vacant
from equipoise.merging.merge import Model, carry_out, opened, prepare

CARD = Card(
    name="GreedySoup",
    shape="system",
    summary="Averages models one by one, the best first, and keeps those that do not lower a held-out score",
    formula="for i by falling score: keep i if score(mean of kept and i) >= score(mean of kept)",
    title="Model soups: averaging weights of multiple fine-tuned models improves accuracy"
    " without increasing inference time",
    authors=(
        "Wortsman",
        "Ilharco",
        "Gadre",
        "Roelofs",
        "Gontijo-Lopes",
        "Morcos",
        "Namkoong",
        "Farhadi",
        "Carmon",
        "Kornblith",
        "Schmidt",
    ),
    venue="ICML",
    year=2022,
    arxiv="2203.05482",
    cost="2m - 1 evaluations of one model",
    use="many models of one task from one base, some of which may have failed; a held-out set is at hand",
    avoid="models of unlike tasks, or a score on data that the models were trained on",
    single="the model itself",
    status="main",
    evidence="merging",
)


@dataclass(frozen=True)
class GreedySoup:
    """What `greedy_soup` chose: the models in the order in which they were added, and the average of them.

    `alone` is the score of each model, `tried` the scores of the averages in the order in which models were
    tried, the first being the best model alone; `score` is that of the soup. `model` is empty where the soup
    was written to a folder.
    """

    chosen: tuple[str, ...]
    score: float
    alone: dict[str, float]
    tried: dict[str, float]
    model: dict[str, Tensor]


def greedy_soup(
    checkpoints: Mapping[str, Model] | Sequence[Model],
    evaluate: Callable[[dict[str, Tensor]], float],
    *,
    base: Model | None = None,
    out: str | Path | None = None,
    **options: Any,
) -> GreedySoup:
    """Average models one by one, in the order of their scores, and keep each that does not lower the score.

    The best model comes first; model i stays if score(mean of the kept and i) >= score(mean of the kept).
    Each average is made anew in the dtype in which it would be written, so what is scored is what one gets.
    Models of equal score are tried in the order in which they are given.

    `evaluate`: the score of a `state_dict` on held-out data, higher is better. `base`: gives names, shapes
    and dtypes; else the first model does. `out`: a folder to write the soup to, else it is in `model`.
    `options`: others of `merge`, such as `vocab` or `threads`.

    Raises ValueError where models do not match, or a score is NaN; FileExistsError where `out` holds
    something.

    Source: Wortsman et al., ICML 2022, recipe 1.

    >>> import torch
    >>> models = {name: {"w": torch.tensor([x])} for name, x in (("a", 0.0), ("b", 3.0), ("c", -9.0))}
    >>> soup = greedy_soup(models, lambda model: -abs(float(model["w"][0]) - 1.0))
    >>> soup.chosen, soup.score
    (('a', 'b'), -0.5)
    """
    opening = {key: options[key] for key in ("reading", "pickles") if key in options}
    models = opened(checkpoints, **opening)
    planning = {key: value for key, value in options.items() if key in signature(prepare).parameters}
    writing = {key: value for key, value in options.items() if key not in planning}
    given = checkpoints if isinstance(checkpoints, Mapping) else dict(zip(models, checkpoints, strict=True))

    def average(names: Sequence[str], folder: str | Path | None = None) -> dict[str, Tensor]:
        some = {name: given[name] for name in names}
        return carry_out(prepare(some, base, method=Average(), equal=True, **planning), folder, **writing)

    def score(names: Sequence[str]) -> float:
        found = float(evaluate(average(names)))
        if isnan(found):
            raise ValueError(f"greedy_soup: the score of {', '.join(names)} is NaN")
        return found

    if out is not None:
        vacant(out)
    alone = {name: score([name]) for name in models}
    first, *rest = sorted(alone, key=lambda name: -alone[name])
    chosen, best = [first], alone[first]
    tried = {first: best}
    for name in rest:
        tried[name] = score([*chosen, name])
        if tried[name] >= best:
            chosen.append(name)
            best = tried[name]
    return GreedySoup(tuple(chosen), best, alone, tried, average(chosen, out))
