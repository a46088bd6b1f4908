"""What federated runs come to: for each system the mean, the worst client, the spread, and what it cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev, stdev
from typing import Any

from scipy import stats

from equipoise.core.problem import Metric
from equipoise.federated.federate import Finished, Judged


@dataclass(frozen=True, slots=True)
class Standing:
    """One system's model on the test split, over the clients; means over seeds.

    output: "last" for the last iterate, or a further model of the system. mean, worst, best: scores of the
    clients; worst_client is the one that is worst in most seeds. parity: the standard deviation over
    the clients. loss: the largest loss of a client (the agnostic loss). scores: {client: score}. spread: the
    standard deviations of mean and worst over seeds, None for one seed. worst_by_seed: the worst scores.
    """

    system: str
    output: str
    mean: float
    worst: float
    worst_client: str
    best: float
    parity: float
    loss: float
    scores: Mapping[str, float]
    spread: tuple[float, float] | None
    worst_by_seed: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a system sent and whom it heard, over a run; means over seeds.

    down, up: bytes of a round. asked, lost, refused: replies over all rounds and clients.
    """

    system: str
    rounds: int
    down: float
    up: float
    asked: float
    lost: float
    refused: float


Runs = Mapping[str, Sequence[Finished]]
"""The finished runs of each system, one for each seed."""


def standings(runs: Runs, metric: Metric) -> list[Standing]:
    """Every output of every system over the clients that all runs judged, the best worst client first.

    Raises ValueError where there is no such client.
    """
    clients, _ = judged_clients(runs)
    if not clients:
        raise ValueError("no client was judged in all runs; has any of them test examples?")
    found = []
    for system, seeds in runs.items():
        for output in seeds[0].test:
            judged = [{name: run.test[output][name] for name in clients} for run in seeds]
            found.append(_standing(system, output, judged, metric))
    sign = 1 if metric.better == "higher" else -1
    return sorted(found, key=lambda one: -sign * one.worst)


def judged_clients(runs: Runs) -> tuple[list[str], list[str]]:
    """The clients with a score of their own in every run, and those with one in some runs or none."""
    every = [judged for seeds in runs.values() for run in seeds for judged in run.test.values()]
    names = list(dict.fromkeys(name for judged in every for name in judged))
    whole = [name for name in names if all(name in one and _known(one[name]["score"]) for one in every)]
    return whole, [name for name in names if name not in whole]


def costs(runs: Runs) -> list[Cost]:
    """What each system's runs sent and lost."""

    def of(system: str, seeds: Sequence[Finished]) -> Cost:
        histories = [run.history for run in seeds]
        rounds = len(histories[0])

        def each(count: Any) -> float:
            return fmean(sum(count(record) for record in history) for history in histories)

        return Cost(
            system,
            rounds,
            each(lambda record: record.down) / rounds,
            each(lambda record: record.up) / rounds,
            each(lambda record: len(record.asked)),
            each(lambda record: len(record.lost)),
            each(lambda record: len(record.quarantined)),
        )

    return [of(system, seeds) for system, seeds in runs.items()]


def sentence(found: Sequence[Standing], metric: Metric) -> str:
    """The first line of a report: who is served worst, and by which system least badly."""
    first = found[0]
    plain = [one for one in found if one.output == "last"]
    if len({one.system for one in found}) == 1:
        one = plain[0]
        return (
            f"{one.system}: the worst client, {one.worst_client}, is at {one.worst:.3f} "
            f"where the mean is {one.mean:.3f} ({metric.name})"
        )
    others = [one for one in plain if one.system != first.system]
    other = next((one for one in others if one.system == "FedAvg"), others[0])
    told = (
        f"{named(first)} has it at {first.worst:.3f} with a mean of {first.mean:.3f}, "
        f"{named(other)} at {other.worst:.3f} with a mean of {other.mean:.3f} ({metric.name})"
    )
    if clearly(first, other):
        return f"{named(first)} serves the worst client best: {told}"
    return f"Which system serves the worst client best cannot be told: {told}"


def clearly(one: Standing, other: Standing) -> bool:
    """Whether the worst clients of two systems differ beyond seeds, by a paired 95 % t interval."""
    differences = [a - b for a, b in zip(one.worst_by_seed, other.worst_by_seed, strict=True)]
    count = len(differences)
    if count < 3:
        return False
    error = stdev(differences) / count**0.5
    return abs(fmean(differences)) > float(stats.t.ppf(0.975, count - 1)) * error


def named(one: Standing) -> str:
    """A system with its output, where that is not the last iterate."""
    return one.system if one.output == "last" else f"{one.system} ({one.output})"


def summary(runs: Runs, metric: Metric) -> dict[str, Any]:
    """Everything of the above as plain values."""
    found = standings(runs, metric)
    return {
        "sentence": sentence(found, metric),
        "metric": metric.name,
        "left_out": judged_clients(runs)[1],
        "seeds": max(map(len, runs.values())),
        "standings": [
            {
                "system": one.system,
                "output": one.output,
                "mean": one.mean,
                "worst": one.worst,
                "worst_client": one.worst_client,
                "best": one.best,
                "parity": one.parity,
                "largest_loss": one.loss,
                "spread_over_seeds": None if one.spread is None else list(one.spread),
                "scores": dict(one.scores),
            }
            for one in found
        ],
        "costs": [
            {
                "system": one.system,
                "rounds": one.rounds,
                "bytes_down_a_round": one.down,
                "bytes_up_a_round": one.up,
                "asked": one.asked,
                "lost": one.lost,
                "quarantined": one.refused,
            }
            for one in costs(runs)
        ],
        "trained": {system: seeds[0].choice.reason for system, seeds in runs.items() if seeds[0].choice},
    }


def _standing(system: str, output: str, judged: Sequence[Judged], metric: Metric) -> Standing:
    clients = list(judged[0])
    scores = {c: fmean(one[c]["score"] for one in judged) for c in clients}
    lowest = min if metric.better == "higher" else max
    highest = max if metric.better == "higher" else min
    worst = [lowest(clients, key=lambda c, one=one: one[c]["score"]) for one in judged]
    means = [fmean(one[c]["score"] for c in clients) for one in judged]
    least = [one[c]["score"] for one, c in zip(judged, worst, strict=True)]
    return Standing(
        system,
        output,
        fmean(means),
        fmean(least),
        max(set(worst), key=lambda c: (worst.count(c), -clients.index(c))),
        fmean(highest(one[c]["score"] for c in clients) for one in judged),
        fmean(pstdev([one[c]["score"] for c in clients]) for one in judged),
        fmean(max(one[c]["loss"] for c in clients) for one in judged),
        scores,
        (stdev(means), stdev(least)) if len(judged) > 1 else None,
        tuple(least),
    )


def _known(value: float) -> bool:
    return value == value  # NaN stands for a client without examples
