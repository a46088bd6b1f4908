"""The trials of a study, in the order in which they are worth having."""

from collections.abc import Iterator
from dataclasses import dataclass

from equipoise.study.preferences import weightings
from equipoise.study.results import Trial
from equipoise.study.roster import YARDSTICK, rule_cards
from equipoise.study.specification import Specification


@dataclass(frozen=True, slots=True)
class Plan:
    """`first`: the yardstick and the single-task references of every seed, which all else is set
    against. `rest`: the rules, seed by seed, so that a run cut short still compares them all on some
    seeds. `planned` counts these and the fixed weightings, whose learning rate is chosen later."""

    first: tuple[Trial, ...]
    rest: tuple[Trial, ...]
    planned: int


def plan(specification: Specification) -> Plan:
    """Every trial that can be named before anything is trained."""
    first: list[Trial] = []
    rest: list[Trial] = []
    if specification.solvers:
        traces = tuple(
            Trial("front", solver, rate, seed)
            for seed in specification.seeds
            for solver in specification.solvers
            for rate in specification.learning_rates
        )
        return Plan((), traces, len(traces))
    for seed in specification.seeds:
        for rate in specification.learning_rates:
            first.append(Trial("rule", YARDSTICK, rate, seed))
            first += [Trial("single", name, rate, seed) for name in specification.objectives]
        rest += _rules(specification, seed)
    fixed = len(fixed_trials(specification, specification.learning_rates[0]))
    return Plan(tuple(first), tuple(rest), len(first) + len(rest) + fixed)


def fixed_trials(specification: Specification, learning_rate: float) -> tuple[Trial, ...]:
    """The sweep of fixed weightings, at the learning rate that validation chose for Mean.

    Its budget is that of a rule: as many configurations a seed as there are learning rates.
    """
    points = weightings(len(specification.objectives), len(specification.learning_rates))
    seeds = specification.seeds
    return tuple(Trial("fixed", "Linear", learning_rate, seed, point) for seed in seeds for point in points)


def _rules(specification: Specification, seed: int) -> Iterator[Trial]:
    cards = rule_cards()
    for name in specification.rules:
        for i, preference in enumerate(specification.preferences):
            if i and not cards[name].promises("PREFERENCE"):
                break
            for rate in specification.learning_rates:
                if i or name != YARDSTICK:
                    yield Trial("rule", name, rate, seed, preference if i else None)
