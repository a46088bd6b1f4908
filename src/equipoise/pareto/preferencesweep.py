"""PreferenceSweep: one solution for each preference, by a scalarisation, each from its neighbour's."""

from copy import deepcopy

from torch import Tensor

import equipoise.scalarization as room
from equipoise.core.card import Card, cards
from equipoise.core.directions import inverted, inwards, outwards, spread
from equipoise.core.errors import unknown
from equipoise.core.rule import Scalarizer
from equipoise.pareto.landscape import Landscape
from equipoise.pareto.solver import Heard, Solver, Traced, rounds_of
from equipoise.pareto.walker import Walker
from equipoise.scalarization.smoothtchebycheff import SmoothTchebycheff

CARD = Card(
    name="PreferenceSweep",
    shape="front",
    summary="Lowers one scalarisation for one preference after the other, from a neighbour's solution on.",
    formula="theta(p) = argmin s_p(f(theta)) for p on a grid",
    title="Nonlinear Multiobjective Optimization",
    authors=("Kaisa Miettinen",),
    venue="Kluwer Academic Publishers",
    year=1998,
    doi="10.1007/978-1-4615-5563-6",
    single="the model that gradient descent finds",
    cost="one gradient a step",
    use="first: the yardstick for every other solver",
    avoid="with Linear where the front is concave: every solution is an end of it",
    status="main",
    evidence="fronts",
)
TEMPERATURE = 0.1


class PreferenceSweep(Solver):
    """Lowers one scalarisation for one preference after the other, from a neighbour's solution on.

    points: the number of preferences. rule: a scalarisation that takes a preference, by name or as an object
    (a copy of it for each preference); SmoothTchebycheff at temperature 0.1 by default, since it reaches
    what Linear cannot on a concave front, and does not jump between objectives as Tchebycheff does.
    warm: from the middle preference outwards, start from the nearest solution there is, else from the first
    model again. None starts from an end of the front, where slopes may vanish, as on ZDT2 and DTLZ2.
    The budget is shared out evenly.

    What is spread evenly are preferences where they mean weights (the rule's `preference_means`, as of
    Linear); else the proportions of losses that they ask for, a thousandth inwards. `Front.weights` are such
    that what weighs more is lower, whatever the rule takes.

    Use it first. Not with Linear on concave fronts, nor with ASF where the optimizer minds the size of a
    loss: it divides by proportions that are small at the ends. Tchebycheff asks for the same and does not.

    Raises ValueError for an unknown rule and for one that takes no preference.
    Source: Miettinen 1998, weighting method and method of weighted metrics; warm starts are ours.

    >>> PreferenceSweep(rule="Linear").rule
    Linear()
    """

    def __init__(self, *, points: int = 11, rule: str | Scalarizer | None = None, warm: bool = True) -> None:
        if points < 1:
            raise ValueError(f"points is {points}; seek at least one")
        self.points = points
        self.rule = SmoothTchebycheff(temperature=TEMPERATURE) if rule is None else _found(rule)
        self.warm = warm

    def solve(
        self, landscape: Landscape, *, budget: int, learning_rate: float, seed: int, heard: Heard
    ) -> Traced:
        m = len(landscape.names)
        grid = spread(m, self.points if m > 1 else 1)
        asked, weights = asked_of(self.rule, grid)
        rounds = rounds_of(budget, len(grid), f"PreferenceSweep at {len(grid)} preferences")
        model = landscape.model(seed)
        first = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        found, gradients = {}, 0
        for turn, (place, neighbour) in enumerate(outwards(grid)):
            if neighbour is not None:
                model.load_state_dict(found[neighbour] if self.warm else first)
            walker, rule = Walker(landscape, model, learning_rate), deepcopy(self.rule)
            for step in range(rounds):
                walker.step(rule, asked[place])
                heard((turn + (step + 1) / rounds) / len(grid))
            found[place] = walker.tensors()
            gradients += walker.count
        return Traced([found[place] for place in range(len(grid))], weights, gradients)


def asked_of(rule: Scalarizer, grid: Tensor) -> tuple[Tensor, Tensor]:  # (n, m) -> twice (n, m)
    """What a scalarisation is given at a grid of the simplex, and its weights, by which more is lower.

    >>> asked, weights = asked_of(SmoothTchebycheff(), spread(2, 3))
    >>> weights[0].round(decimals=4).tolist()
    [0.9995, 0.0005]
    """
    if rule.preference_means == "weights":
        return grid, grid
    rays = inwards(grid)
    weights = inverted(rays)
    return (rays if rule.preference_means == "proportions" else weights), weights


def _found(rule: str | Scalarizer) -> Scalarizer:
    if isinstance(rule, str):
        known = [name for name, card in cards("scalarization").items() if card.promises("PREFERENCE")]
        name = {one.lower(): one for one in known}.get(rule.lower())
        if name is None:
            raise ValueError(unknown("scalarisation with a preference", rule, known))
        rule = getattr(room, name)()
    if not isinstance(rule, Scalarizer) or not rule.uses("preference"):
        raise ValueError(f"{rule!r} takes no preference, so a sweep of preferences would not move it")
    return rule
