"""Every method of room `merging` as it merges the experts, found by its card."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from _digit_images import Images
from _experts import Experts, State, accuracy, mean_accuracy, network
from torch import Tensor, nn
from torch.nn import functional

from equipoise.core.card import cards
from equipoise.merging import (
    AdaMerging,
    ArceeFusion,
    NearSwap,
    SelfPositioning,
    calibrate,
    greedy_soup,
    merge,
)
from equipoise.merging.methods import method_named

SEEN = 256
"""Training images of each task for the methods that look at data."""
Make = Callable[[Experts, int], State]
"""Merge experts; the number is that of steps, for methods that learn from data."""


@dataclass(frozen=True)
class Method:
    """A way to merge: its name, what it looks at ("", "images" or "labels"), and how it is done."""

    name: str
    data: str
    make: Make


TWO = ("Slerp", "NuSlerp")
"""Methods for two models."""
ONE = ("Passthrough", "NearSwap", "ArceeFusion")
"""Methods for one model: a single expert for the first, `near` and `fused` beside a base for the others."""
VARIANTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "TIES": {
        "TIES": {},
        "TIES, tensor by tensor": {"preset": "mergekit", "density": 0.2},
    },
    "DARE": {"DARE": {}, "DARE with votes": {"votes": True}},
    "TSVM": {"TSVM": {}, "TSVM with kernels": {"kernels": True}},
    "IsoC": {"IsoC": {}, "IsoC with kernels": {"kernels": True}},
    "IsoCTS": {"IsoCTS": {}, "IsoCTS with kernels": {"kernels": True}},
    "WUDI": {
        "WUDI": {},
        "WUDI with kernels": {"kernels": True},
        "WUDI by Adam with kernels": {"kernels": True, "solver": "adam"},
    },
    "DOGE": {"DOGE": {}, "DOGE with kernels": {"kernels": True, "others": "average", "eta": 1.0}},
    "RegMean": {"RegMean": {}, "RegMean, off-diagonal 0.1": {"off_diagonal": 0.1}},
    "LiNeS": {"LiNeS on TaskArithmetic": {"inner": "TaskArithmetic"}, "LiNeS on TIES": {"inner": "TIES"}},
    "GroupWise": {
        "GroupWise, TIES then average": {
            "groups": {"drawn otherwise": ["usps", "mnist-m"], "seen otherwise": ["turned", "inverted"]},
            "inner": "TIES",
        }
    },
    "Aggregated": {
        f"Aggregated, {rule}": {"rule": rule}
        for rule in ("UPGrad", "MGDA", "CAGrad", "ConFIG", "AlignedMTL", "CoordinateMedian")
    },
}
"""Options of a method where its defaults are not the one row of it."""


def rules(two: bool = False) -> list[Method]:
    """Merging rules; `two` gives those for two models, beside those that they are compared with."""
    found = []
    for name, card in cards("merging").items():
        if card.shape != "merge" or name in ONE:
            continue
        wanted = name in (*TWO, "Average", "TaskArithmetic", "TIES") if two else name not in TWO
        for row, options in VARIANTS.get(name, {name: {}}).items() if wanted else ():
            rule = method_named(name, **options)
            found.append(Method(row, "images" if rule.statistic else "", partial(_by_rule, rule=rule)))
    return found


def near(experts: Experts, steps: int) -> State:
    """The first expert, moved in each element towards the second by their mean distance at most."""
    first, second = experts.experts.values()
    apart = torch.cat([(first[name] - second[name]).abs().flatten() for name in first])
    return merge([second], first, method=NearSwap(t=float(apart.mean())), threads=1)


def fused(experts: Experts, steps: int) -> State:
    """The first expert, with those elements of the second whose change is of outlying importance."""
    first, second = experts.experts.values()
    return merge([second], first, method=ArceeFusion(), threads=1)


def systems() -> list[Method]:
    """Methods that tune or choose by data."""
    return [
        Method("AdaMerging by task", "images", partial(_adapted, by="task")),
        Method("AdaMerging by tensor", "images", partial(_adapted, by="tensor")),
        Method("AdaMerging by tensor, last step", "images", partial(_adapted, by="tensor", guarded=False)),
        Method("SelfPositioning", "labels", _positioned),
        Method("GreedySoup", "labels", _soup),
    ]


def _by_rule(experts: Experts, steps: int, rule: Any) -> State:
    kind = rule.statistic
    found = None if kind is None else {n: kinds[kind] for n, kinds in statistics(experts).items()}
    return merge(experts.experts, experts.base, method=rule, statistics=found, threads=1)


@cache
def statistics(experts: Experts) -> Mapping[str, Mapping[Any, Mapping[str, Tensor]]]:
    """Task -> kind -> what its expert's inputs and gradients are like on some unlabelled images."""
    return {
        name: calibrate(network(state), [_seen(experts, name).x]) for name, state in experts.experts.items()
    }


def _seen(experts: Experts, name: str) -> Images:
    return experts.tasks[name]["train"].take(torch.arange(SEEN))


@cache
def _adaptation(experts: Experts, by: Any, steps: int) -> Any:
    system = AdaMerging(by=by, steps=steps)
    batches = {name: list(_seen(experts, name).x.split(16)) for name in experts.names}
    return system.fit(network(experts.base), experts.experts, experts.base, batches, looks=16)


def _adapted(experts: Experts, steps: int, by: str, guarded: bool = True) -> State:
    found = _adaptation(experts, by, min(steps, AdaMerging().steps))
    method = found.method if guarded else found.last
    return merge(experts.experts, experts.base, method=method, threads=1)


def _positioned(experts: Experts, steps: int) -> State:
    def loss(model: nn.Module, task: str, batch: Images) -> Tensor:
        return functional.cross_entropy(model(batch.x), batch.y)

    batches = {
        name: [_seen(experts, name).take(index) for index in torch.arange(SEEN).split(64)]
        for name in experts.names
    }
    system = SelfPositioning(steps=min(steps, SelfPositioning().steps))
    found = system.fit(network(experts.base), experts.experts, experts.base, batches, loss)
    return merge(experts.experts, experts.base, method=found.method, threads=1)


def _soup(experts: Experts, steps: int) -> State:
    return greedy_soup(
        experts.experts, lambda state: mean_accuracy(state, experts, "validation"), threads=1
    ).model


def moved(base: State, state: State, scale: float) -> dict[str, Tensor]:
    """The base plus so many times what was added to it."""
    return {name: first + scale * (state[name] - first) for name, first in base.items()}


def best_alone(experts: Experts) -> str:
    """The task whose expert is the best of all tasks on validation images."""
    return max(experts.names, key=lambda n: mean_accuracy(experts.experts[n], experts, "validation"))


def own_accuracies(experts: Experts) -> list[float]:
    """Of every expert on its own task's test images."""
    return [accuracy(experts.experts[name], experts.tasks[name]["test"]) for name in experts.names]
