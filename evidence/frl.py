"""FRL: do votes over rankings withstand clients that poison, where averages do not?

Mozaffari, Shejwalkar and Houmansadr, USENIX Security 2023 (arXiv 2110.04350). Twenty clients hold 2,400
MNIST images of 14 x 14 pixels, their labels skewed by a Dirichlet distribution of 1; a 196-128-10 network,
two local passes in batches of 32 with momentum 0.9, all clients in every round, so that the poisoners' share
is the same in each (the authors draw 25 of 1000, anew where half of them are poisoners). Under FRL a poisoner
sends its ranking the wrong way round; under the others -5 times its update. The seed deals the images, and
the first clients are the poisoners. Claims of the paper:

(a) Without poisoners FRL is within 2 points of FedAvg.
(b) With 10, 20 and 30% of them it is ahead of FedAvg, (c) of Krum and (d) of the median.
(e) With 20% it is within 2 points of what it is without.

Every system's rate is tuned from five values on validation images without poisoners, on a seed that is not
reported; three were not enough, the largest was the best for all. The authors attack the others by updates
that are optimised against each rule; turned ones, as here, are easier to see through for a median. Their
poisoners of FRL know of each other and all send the reverse of their common vote; here each sends the reverse
of its own. The width, the number of clients and the values for the rates were set after a first look on that
seed, where narrower networks had a larger gap in (a) and the largest rates were best.
"""

import sys
from collections.abc import Iterator
from functools import cache
from statistics import mean

from _experiment import Claim, Table, Verdict, interval, run, spread, verdict
from _fair_runs import SmallMnist

from equipoise.aggregation import CoordinateMedian, Krum
from equipoise.federated import FRL, Algorithm, FedAvg, Local, RankReverse, SignFlip, federate
from equipoise.federated.byrule import ByRule
from equipoise.federated.engine.quarantine import NoUpdates

RECORDED: dict[str, Verdict] = {
    "a": "fails",
    "b": "holds",
    "c": "inconclusive",
    "d": "fails",
    "e": "fails",
}

CLIENTS = 20
SHARES = (0.0, 0.1, 0.2, 0.3)
TUNING = 1000
CHANCE = 10.0
RATES = {
    "FRL": (0.4, 1.0, 2.5, 6.0, 15.0),
    "FedAvg": (0.1, 0.3, 0.5, 0.8, 1.2),
    "Krum": (0.1, 0.3, 0.5, 0.8, 1.2),
    "median": (0.1, 0.3, 0.5, 0.8, 1.2),
}


class Wider(SmallMnist):
    """For a 196-128-10 network."""

    hidden = 128


def system(name: str) -> Algorithm:
    match name:
        case "FRL":
            return FRL()
        case "Krum":
            return ByRule(Krum())
        case "median":
            return ByRule(CoordinateMedian())
        case _:
            return FedAvg()


@cache
def clients(seed: int) -> Wider:
    return Wider(
        client_count=CLIENTS,
        split="dirichlet",
        alpha=1.0,
        train=2400,
        judged=100,
        network="mlp",
        split_seed=seed,
    )


@cache
def accuracy(name: str, rate: float, share: float, seed: int, rounds: int, split: str) -> tuple[float, int]:
    """Per cent at the end on a split, and bytes of the replies of a round."""
    on = clients(seed)
    poisoners = on.clients[: round(share * CLIENTS)]
    attack = RankReverse() if name == "FRL" else SignFlip(5.0)
    try:
        done = federate(
            on,
            system(name),
            rounds=rounds,
            local=Local(epochs=2, batch_size=32, learning_rate=rate, momentum=0.9),
            attacks=dict.fromkeys(poisoners, attack),
            seed=seed,
            batching="batched",
            evaluate_every=rounds,
            test=split == "test",
        )
    except (NoUpdates, ValueError) as error:
        if "not finite" not in str(error):
            raise
        return CHANCE, 0
    judged = done.test["last"] if split == "test" else done.history[-1].judged
    return 100 * mean(one["score"] for one in judged.values()), done.history[-1].up


def experiment(fast: bool) -> Iterator[Table | Claim]:
    rounds, seeds = (1, 1) if fast else (20, 5)
    rates = {
        name: max(
            found[1:2] if fast else found,
            key=lambda rate, name=name: accuracy(name, rate, 0.0, TUNING, rounds, "validation")[0],
        )
        for name, found in RATES.items()
    }
    found = {
        (name, share): [accuracy(name, rates[name], share, seed, rounds, "test")[0] for seed in range(seeds)]
        for name in RATES
        for share in SHARES
    }
    up = {name: accuracy(name, rates[name], 0.0, 0, rounds, "test")[1] / CLIENTS for name in RATES}
    yield Table(
        f"Test accuracy in per cent after {rounds} rounds, {seeds} seeds, by the share of poisoners",
        ("", "rate", *(f"{share:.0%}" for share in SHARES), "kB of a reply"),
        [
            (name, rates[name], *(spread(found[name, share], 1) for share in SHARES), up[name] / 1000)
            for name in RATES
        ],
        f"A run that diverged counts as {CHANCE:.0f}.",
    )

    def ahead(other: str) -> dict[str, tuple[float, float]]:
        return {
            f"points at {share:.0%}": interval(
                [a - b for a, b in zip(found["FRL", share], found[other, share], strict=True)]
            )
            for share in SHARES[1:]
        }

    def within(one: tuple[str, float], other: tuple[str, float]) -> dict[str, tuple[float, float]]:
        differences = [a - b + 2 for a, b in zip(found[one], found[other], strict=True)]
        return {"points to spare": interval(differences)}

    for key, claim, advantages in (
        ("a", "Without poisoners FRL is within 2 points of FedAvg", within(("FRL", 0.0), ("FedAvg", 0.0))),
        ("b", "With 10, 20 and 30% of poisoners FRL is ahead of FedAvg", ahead("FedAvg")),
        ("c", "So it is of Krum", ahead("Krum")),
        ("d", "So it is of the median", ahead("median")),
        ("e", "With 20% FRL is within 2 points of itself without", within(("FRL", 0.2), ("FRL", 0.0))),
    ):
        yield Claim(key, claim, *verdict(advantages))


if __name__ == "__main__":
    sys.exit(run(__file__, experiment, RECORDED))
