"""What fronts.py runs on and with: landscapes, solvers, tuned rates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equipoise.core.front import Front
from equipoise.pareto import (
    EPO,
    MOOSVGD,
    PMGDA,
    AmortizedFront,
    HypervolumeGradient,
    Landscape,
    LowRankFront,
    OMDFront,
    ParetoHyperNetwork,
    ParetoManifold,
    ParetoMTL,
    PreferenceSweep,
    Solver,
    Training,
)
from equipoise.pareto.landscapes import Analytic, named
from equipoise.problems import problem
from equipoise.scalarization import SmoothTchebycheff

TUNING = 1000  # the seed of tuning; those that are reported start at 0
ANALYTIC = ("zdt1", "zdt2", "zdt3", "dtlz2", "vlmop2")
REAL: Mapping[str, Mapping[str, Any]] = {
    "digits-pairs": {"pairs": 2560},
    "mnist-pairs": {"judged": 2000, "channels": 4, "width": 32},
    "adult": {},
}


@dataclass(frozen=True)
class Course:
    """A landscape to tune on and one to report on, and what every solver gets there."""

    name: str
    tuned_on: Landscape
    judged_on: Landscape
    budget: int
    rates: Sequence[float]
    points: int
    beyond: Tensor  # (m,), the reference of the volumes
    whole: float  # the volume of the known front, or of the box below the reference
    known: Tensor | None = None
    least: Mapping[str, float] | float = 0.0

    def share(self, front: Front) -> float:
        """The dominated volume, as a share of the known front's or of the whole box."""
        return front.hypervolume(self.beyond) / self.whole


def courses(fast: bool) -> list[Course]:
    budget, points = (60, 4) if fast else (1000, 10)
    found = [_analytic(name, budget, points) for name in (ANALYTIC[-2:] if fast else ANALYTIC)]
    budget, points = (30, 3) if fast else (600, 5)
    names = list(REAL)[:1] if fast else REAL
    return found + [_real(name, {"pairs": 256} if fast else REAL[name], budget, points) for name in names]


def _analytic(name: str, budget: int, points: int) -> Course:
    landscape: Analytic = named(name)
    known = landscape.front(300)
    beyond = known.amax(0) + 0.1 * (known.amax(0) - known.amin(0))
    whole = Front(landscape.names, known).hypervolume(beyond)
    rates = (0.1, 0.3, 1.0, 3.0) if name == "vlmop2" else (0.01, 0.03, 0.1, 0.3)
    least = {"f1": 0.0, "f2": -0.8} if name == "zdt3" else 0.0
    return Course(name, landscape, landscape, budget, rates, points, beyond, whole, known, least)


def _real(name: str, options: Mapping[str, Any], budget: int, points: int) -> Course:
    found = problem(name, **options)
    found.prepare()
    validation, test = Training(found, split="validation"), Training(found, split="test")
    rates = (0.01, 0.03, 0.1, 0.3)
    beyond = _worst(validation, budget, rates[2])
    return Course(name, validation, test, budget, rates, points, beyond, float(beyond.prod()))


def _worst(landscape: Landscape, budget: int, rate: float) -> Tensor:  # -> (m,)
    """The worst losses of a model that has learned nothing, and of those that each learned one objective."""
    ends = PreferenceSweep(points=2, rule="Linear", warm=False)
    found = ends.trace(landscape, budget=budget, learning_rate=rate, seed=TUNING, gaps=False)
    untrained = landscape.evaluate(landscape.model(TUNING))
    return torch.maximum(found.points.amax(0), untrained)


def solvers(course: Course) -> dict[str, Callable[[], Solver]]:
    """The makers of all solvers, by the names in the tables."""
    n, least = course.points, course.least
    smooth = SmoothTchebycheff(temperature=0.1, reference=least)
    return {
        "Linear": lambda: PreferenceSweep(points=n, rule="Linear"),
        "SmoothTchebycheff": lambda: PreferenceSweep(points=n, rule=smooth),
        "OMDFront": lambda: OMDFront(points=n, reference=least),
        "EPO": lambda: EPO(points=n, reference=least),
        "ParetoMTL": lambda: ParetoMTL(points=n, reference=least),
        "PMGDA": lambda: PMGDA(points=n, reference=least),
        "MOOSVGD": lambda: MOOSVGD(points=n),
        "HypervolumeGradient": lambda: HypervolumeGradient(points=n),
        "ParetoManifold": lambda: ParetoManifold(points=n),
        "ParetoHyperNetwork": lambda: ParetoHyperNetwork(points=n),
        "LowRankFront": lambda: LowRankFront(points=n),
        "AmortizedFront": lambda: AmortizedFront(points=n),
    }


def attempt(make: Callable[[], Solver], landscape: Landscape, course: Course, rate: float, seed: int):
    """The front at a rate, None where losses grew beyond what can be represented."""
    try:
        return make().trace(landscape, budget=course.budget, learning_rate=rate, seed=seed, gaps=False)
    except ValueError as error:
        if "finite" in str(error):
            return None
        raise


def tuned(make: Callable[[], Solver], course: Course) -> float:
    """The rate whose front dominates most on the tuning seed; on problems, on validation data."""
    fronts = {rate: attempt(make, course.tuned_on, course, rate, TUNING) for rate in course.rates}
    return max(course.rates, key=lambda rate: -1.0 if fronts[rate] is None else course.share(fronts[rate]))


def angles(front: Front, rays: Tensor) -> Tensor:  # (n, m) -> (n,)
    """Degrees between the losses of each solution and its ray."""
    cosines = torch.nn.functional.cosine_similarity(front.points, rays, dim=1)
    return cosines.clamp(-1, 1).acos().rad2deg()
