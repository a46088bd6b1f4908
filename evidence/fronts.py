"""Front solvers at an equal budget of gradients, on fronts that are known and on two real problems.

Every solver spends the same number of gradients (one is a backward pass from one loss or one weighted sum)
and gives the same number of solutions. Each is tuned on its own from four learning rates, by the volume that
it dominates: on analytic landscapes on a seed that is not reported, on real problems on validation data. The
papers run far longer than this budget; what is tried is what the methods give for little.

The claims:
(epo) EPO (Mahapatra and Rajan 2020) ends on the ray that it is given: within 2 degrees, and nearer than
    ParetoMTL. VLMOP2 and DTLZ2, on all rays but those of one loss alone.
(pmgda) PMGDA (Zhang et al. 2024) ends nearer to its ray than EPO.
(pmtl) On the concave front of VLMOP2, its authors' own example, ParetoMTL (Lin et al. 2019) dominates more
    than a linear sweep, which collapses to the ends.
(svgd), (hv) On concave fronts (VLMOP2, ZDT2, DTLZ2) MOO-SVGD (Liu et al. 2021) and hypervolume gradients
    (Deist et al. 2023) spread where a linear sweep collapses.
(omd) Our question: mirror descent with shared iterates dominates more than a smooth Tchebycheff sweep.
(epo-real), (pmtl-real), (hv-real) On real training problems they dominate more than a linear sweep. The sweep
    starts each solution from its neighbour's, which the papers' do not.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence

from _experiment import Claim, Table, Verdict, interval, run, spread, verdict
from _fronts_courses import ANALYTIC, REAL, Course, angles, attempt, courses, solvers, tuned

from equipoise.core.directions import INSIDE, inverted
from equipoise.core.front import Front

RECORDED: dict[str, Verdict] = {
    "epo": "inconclusive",
    "pmgda": "inconclusive",
    "pmtl": "holds",
    "svgd": "inconclusive",
    "hv": "holds",
    "omd": "inconclusive",
    "epo-real": "fails",
    "pmtl-real": "inconclusive",
    "hv-real": "inconclusive",
}

Fronts = Mapping[tuple[str, str], Sequence[Front | None]]  # (course, solver) -> over the seeds
ON_RAYS = ("EPO", "PMGDA", "ParetoMTL", "SmoothTchebycheff")
CONCAVE = ("vlmop2", "zdt2", "dtlz2")


def experiment(fast: bool) -> Iterator[Table | Claim]:
    seeds = range(2 if fast else 5)
    found, rates, all_courses = {}, {}, {course.name: course for course in courses(fast)}
    for course in all_courses.values():
        for name, make in solvers(course).items():
            rate = course.rates[1] if fast else tuned(make, course)
            rates[course.name, name] = rate
            fronts = [attempt(make, course.judged_on, course, rate, seed) for seed in seeds]
            found[course.name, name] = fronts
    yield from tables(found, rates, all_courses)
    yield from claims(found, all_courses)


def tables(found: Fronts, rates: Mapping, every: Mapping[str, Course]) -> Iterator[Table]:
    names = list(solvers(next(iter(every.values()))))
    budgets = ", ".join(f"{c.name} {c.budget} for {c.points}" for c in every.values())
    yield Table(
        "dominated volume, as a share of the known front's or of the box below the worst losses",
        ("solver", *every),
        [(n, *(spread(shares(found, c, n)) for c in every.values())) for n in names],
        f"gradients and solutions: {budgets}. Mean and deviation over seeds; a run that diverged counts 0.",
    )
    known = [course for course in every.values() if course.known is not None]
    yield Table(
        "IGD+ to the known front",
        ("solver", *(course.name for course in known)),
        [(n, *(_igd(found[c.name, n], c) for c in known)) for n in names],
        "lower is better.",
    )
    rows = [(n, *(_off(found[c, n]) for c in ("dtlz2", "vlmop2"))) for n in ON_RAYS]
    yield Table(
        "degrees off the ray, mean over the rays of several losses", ("solver", "dtlz2", "vlmop2"), rows
    )
    rows = [(n, *(f"{rates[c, n]:g}" for c in every)) for n in names]
    yield Table("learning rates chosen", ("solver", *every), rows)


def claims(found: Fronts, every: Mapping[str, Course]) -> Iterator[Claim]:
    rays = {n: {c: off_rays(found[c, n]) for c in ("vlmop2", "dtlz2")} for n in ON_RAYS}
    precise = {f"2 degrees less EPO's, {c}": [2 - a for a in rays["EPO"][c]] for c in rays["EPO"]}
    nearer = {
        f"ParetoMTL's less EPO's, {c}": _less(rays["ParetoMTL"][c], rays["EPO"][c]) for c in rays["EPO"]
    }
    words = "EPO ends within 2 degrees of its ray, and nearer than ParetoMTL"
    yield _claim("epo", words, precise | nearer)
    nearer = {
        f"EPO's degrees less PMGDA's, {c}": _less(rays["EPO"][c], rays["PMGDA"][c]) for c in rays["EPO"]
    }
    yield _claim("pmgda", "PMGDA ends nearer to its ray than EPO", nearer)
    yield _more(found, every, "pmtl", "ParetoMTL", "Linear", ("vlmop2",), "On VLMOP2's concave front")
    yield _more(found, every, "svgd", "MOOSVGD", "Linear", CONCAVE, "On concave fronts")
    yield _more(found, every, "hv", "HypervolumeGradient", "Linear", CONCAVE, "On concave fronts")
    known = ANALYTIC
    yield _more(found, every, "omd", "OMDFront", "SmoothTchebycheff", known, "On analytic landscapes")
    for key, name in (("epo", "EPO"), ("pmtl", "ParetoMTL"), ("hv", "HypervolumeGradient")):
        yield _more(found, every, f"{key}-real", name, "Linear", tuple(REAL), "On real training problems")


def _more(
    found: Fronts,
    every: Mapping[str, Course],
    key: str,
    ours: str,
    theirs: str,
    on: Sequence[str],
    where: str,
) -> Claim:
    gained = {
        f"volume gained, {name}": _less(shares(found, every[name], ours), shares(found, every[name], theirs))
        for name in on
        if name in every
    }
    sweep = "a linear sweep" if theirs == "Linear" else "a smooth Tchebycheff sweep"
    return _claim(key, f"{where} {ours} dominates more than {sweep}", gained)


def _claim(key: str, words: str, differences: Mapping[str, Sequence[float]]) -> Claim:
    return Claim(key, words, *verdict({name: interval(values) for name, values in differences.items()}))


def _less(first: Sequence[float], second: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(first, second, strict=True)]


def shares(found: Fronts, course: Course, solver: str) -> list[float]:
    return [0.0 if front is None else course.share(front) for front in found[course.name, solver]]


def off_rays(fronts: Sequence[Front | None]) -> list[float]:
    """For each seed the mean angle to the rays but those of one loss alone."""
    return [_angle(front) for front in fronts if front is not None]


def _angle(front: Front) -> float:
    assert front.weights is not None
    rays = inverted(front.weights)
    inside = (rays > INSIDE).sum(1) > 1
    return float(angles(front, rays)[inside].mean())


def _off(fronts: Sequence[Front | None]) -> str:
    return spread(off_rays(fronts))


def _igd(fronts: Sequence[Front | None], course: Course) -> str:
    assert course.known is not None
    values = [front.igd_plus(course.known) for front in fronts if front is not None]
    return spread(values) if values else f"diverged in all {len(fronts)}"


if __name__ == "__main__":
    sys.exit(run(__file__, experiment, RECORDED))
