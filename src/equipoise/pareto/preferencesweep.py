"""PreferenceSweep: one solution for each preference, by a scalarisation, each from its neighbour's."""

from copy import deepcopy

import equipoise.scalarization as room
from equipoise.core.card import Card, cards
from equipoise.core.directions import in_path, inverted, spread
from equipoise.core.errors import unknown
from equipoise.core.rule import Scalarizer
from equipoise.pareto.landscape import Landscape
from equipoise.pareto.solver import Heard, Solver, Traced, rounds_of
from equipoise.pareto.walker import Walker
from equipoise.scalarization.linear import Linear
from equipoise.scalarization.smoothtchebycheff import SmoothTchebycheff

CARD = Card(
    name="PreferenceSweep",
    shape="front",
    summary="Lowers one scalarisation for one preference after the other, from the last solution on.",
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
    """Lowers one scalarisation for one preference after the other, from the last solution on.

    points: the number of preferences. rule: a scalarisation that takes a preference, by name or as an object
    (a copy of it for each preference); SmoothTchebycheff at temperature 0.1 by default, since it reaches
    what Linear cannot on a concave front, and does not jump between objectives as Tchebycheff does.
    warm: start from the solution of the neighbour on a short path through the preferences, else from the
    first model again; a warm start may stay where the slopes at an end of the front vanish, as on ZDT2.
    The budget is shared out evenly.

    Preferences are spread evenly where weights are what counts (Linear); for others their reciprocals are,
    the proportions of losses that they ask for.

    Use it first. Not with Linear on concave fronts.

    Raises ValueError for an unknown rule and for one that takes no preference.
    Source: Miettinen 1998, weighting method and method of weighted metrics; warm starts are ours.

    >>> PreferenceSweep(rule="Linear").rule
    Linear()
    """

    def __init__(self, *, points: int = 10, rule: str | Scalarizer | None = None, warm: bool = True) -> None:
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
        rays = grid if isinstance(self.rule, Linear) else inverted(grid)
        rounds = rounds_of(budget, len(rays), f"PreferenceSweep at {len(rays)} preferences")
        model = landscape.model(seed)
        first = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        found, gradients = {}, 0
        for turn, place in enumerate(in_path(grid)):
            if not self.warm:
                model.load_state_dict(first)
            walker, rule = Walker(landscape, model, learning_rate), deepcopy(self.rule)
            for step in range(rounds):
                walker.step(rule, rays[place])
                heard((turn + (step + 1) / rounds) / len(rays))
            found[place] = walker.tensors()
            gradients += walker.count
        return Traced([found[place] for place in range(len(rays))], rays, gradients)


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
