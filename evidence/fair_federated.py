"""Fair federated systems, against each other and against the plain mean.

Liu, Zhang, Xie, Donahue and Zhao, TMLR 2026 (arXiv 2410.21764), compare them where ten clients hold MNIST,
seven of them upright, two turned by 90 degrees and one by 180, or where each client holds two classes.
Here: that rotation of scikit-learn's digits (100 images a client, 64-64-10 network) and of MNIST (100
images a client of 14 x 14 pixels, 196-64-10 network), and the two classes of MNIST; all images of a client
in every local step, 5 steps a round. The seed deals the images and draws the first model.

Measured on test images of each client: mean accuracy, that of the worst client, the agnostic loss (of the
client with the largest), and parity, the standard deviation over clients. Claims, the first four on
digits:

(a) AdaOMD-TCH, exponentiated, has a worst client at least 8 points above FedAvg's,
(b) with a mean accuracy at most 1.5 points below it, and (c) an agnostic loss at least 25% below it.
(d) Its mean accuracy is at least 2 points above that of the uniform average of the same iterates.
(e) It has a lower agnostic loss than the last iterate: our question, since in the authors' code as
    published the two are one (it stores references). All three places.
(f) FedFV has the best mean accuracy in the paper's MNIST tables: above AdaOMD-TCH in both places.
(g) FedMGDA+ and (h) FedFV have a lower agnostic loss than AdaOMD-TCH in both, by the paper's tables.
(i) The adaptive average has a lower agnostic loss than the uniform one, in all places.

Every output of every system has six settings, local rates of 0.1, 0.3 and 1 by two values of its own option
(six rates from 0.05 to 1 where it has none), and is reported with the one of the lowest agnostic loss on
validation images, mean of two seeds that are not reported. AFL is the projected OMD-TCH: its solution is the
row "average", with the last model in the place of the first. FedMGDA+ stands twice, with updates as they were
sent, as in that comparison, and with steps of unit updates, as in its paper, at three lengths of the step and
one local rate.

A first look gave systems with an option two rates up to 0.3 and three values of it, and FedAvg rates up to
1. On digits all took their largest. So all now have the same largest rate, and two values in place of three.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from _experiment import Claim, Interval, Table, Verdict, interval, run, spread, verdict
from _fair_runs import Measures, Place, Setting, Tchebycheff

from equipoise.federated import QFFL, TERM, AdaOMDTCH, Algorithm, FedAvg, FedFV, FedMGDAPlus

RECORDED: dict[str, Verdict] = {
    "a": "inconclusive",
    "b": "holds",
    "c": "inconclusive",
    "d": "inconclusive",
    "e": "inconclusive",
    "f": "inconclusive",
    "g": "inconclusive",
    "h": "inconclusive",
    "i": "inconclusive",
}

RATES = (0.1, 0.3, 1.0)
SIX = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
PAPER = {
    "MNIST, rotation": {
        "FedAvg": "92.45 / .639 / 4.80",
        "QFFL": "91.90 / .675 / 5.02",
        "FedMGDA+ as sent": "92.42 / .322 / 1.15",
        "FedFV": "94.50 / .302 / 1.65",
        "Tchebycheff": "92.58 / .342 / 1.40",
        "OMD projected average": "88.60 / .514 / 1.66",
        "OMD projected adaptive": "92.59 / .341 / 1.30",
        "OMD exponentiated average": "88.66 / .518 / 1.68",
        "OMD exponentiated adaptive": "92.58 / .334 / 1.20",
    },
    "MNIST, two classes": {
        "FedAvg": "92.33 / .534 / 4.57",
        "QFFL": "90.26 / .659 / 6.03",
        "FedMGDA+ as sent": "92.24 / .386 / 2.63",
        "FedFV": "93.67 / .397 / 3.32",
        "Tchebycheff": "93.25 / .409 / 3.69",
        "OMD projected average": "90.97 / .549 / 4.37",
        "OMD projected adaptive": "92.39 / .424 / 3.15",
        "OMD exponentiated average": "90.13 / .569 / 4.56",
        "OMD exponentiated adaptive": "92.21 / .435 / 3.08",
    },
}


def grid(
    kind: Callable[..., Algorithm], option: str, values: Sequence[float], **fixed: object
) -> list[Setting]:
    return [
        Setting(rate, f"{option} {value}", partial(kind, **{option: value}, **fixed))
        for rate in RATES
        for value in values
    ]


SYSTEMS: dict[str, list[Setting]] = {
    "FedAvg": [Setting(rate, "", FedAvg) for rate in SIX],
    "QFFL": grid(QFFL, "q", (1.0, 5.0)),
    "TERM": grid(TERM, "tilt", (1.0, 10.0), memory=0.0),
    "FedMGDA+ as sent": grid(FedMGDAPlus, "epsilon", (0.1, 0.5), unit_steps=False),
    "FedMGDA+ unit steps": [
        Setting(
            0.1, f"epsilon {e}, eta {eta}", partial(FedMGDAPlus, epsilon=e, learning_rate=eta, decay=0.97)
        )
        for eta in (0.3, 1.0, 3.0)
        for e in (0.1, 0.5)
    ],
    "FedFV": grid(FedFV, "alpha", (0.1, 0.5), tau=0),
    "Tchebycheff": [Setting(rate, "", Tchebycheff) for rate in SIX],
    "OMD projected": grid(AdaOMDTCH, "step_size", (0.1, 1.0), geometry="projected"),
    "OMD exponentiated": grid(AdaOMDTCH, "step_size", (0.1, 1.0)),
}
OUTPUTS = ("last", "average", "adaptive")

Found = dict[str, list[Measures]]


def place(title: str, where: Place, fast: bool) -> tuple[Table, Found]:
    seeds, tuning = (1, 1) if fast else (5, 2)
    found: Found = {}
    rows = []
    for name, settings in SYSTEMS.items():
        if fast:
            settings = settings[1:2]
        for output in OUTPUTS if name.startswith("OMD") else ("last",):
            label = f"{name} {output}" if name.startswith("OMD") else name
            best = where.tuned(name, output, settings, lambda one: one.agnostic, tuning)
            found[label] = where.tests(name, output, best, seeds)
            rows.append(
                (label, *shown(found[label]), best.rate, best.words, PAPER.get(title, {}).get(label, ""))
            )
    columns = ("system", "mean %", "worst %", "agnostic loss", "parity", "rate", "option", "paper")
    note = "paper: mean / agnostic loss / parity, at 28 x 28 pixels, 300 rounds of 10 steps, another network."
    heading = f"{title}: ten clients, {where.rounds} rounds, {seeds} seeds, test images"
    return Table(heading, columns, rows, note if title in PAPER else ""), found


def shown(found: Sequence[Measures]) -> list[str]:
    return [
        spread([one.accuracy for one in found], 1),
        spread([one.worst for one in found], 1),
        spread([one.agnostic for one in found]),
        spread([one.parity for one in found], 1),
    ]


def gains(
    one: Sequence[Measures], other: Sequence[Measures], gain: Callable[[Measures, Measures], float]
) -> Interval:
    return interval([gain(a, b) for a, b in zip(one, other, strict=True)])


def experiment(fast: bool) -> Iterator[Table | Claim]:
    rounds = 2 if fast else 60
    places = {
        "digits, rotation": Place("digits", "rotation", "mlp", rounds, 5),
        "MNIST, rotation": Place("mnist", "rotation", "mlp", rounds, 5),
        "MNIST, two classes": Place("mnist", "classes", "mlp", rounds, 5),
    }
    found: dict[str, Found] = {}
    for title, where in places.items():
        table, found[title] = place(title, where, fast)
        yield table
    digits, rest = found["digits, rotation"], {k: v for k, v in found.items() if k.startswith("MNIST")}
    ours, uniform, last = (f"OMD exponentiated {output}" for output in ("adaptive", "average", "last"))

    def everywhere(
        among: dict[str, Found], one: str, other: str, gain: Callable[[Measures, Measures], float]
    ) -> dict[str, Interval]:
        return {f"{title}:": gains(each[one], each[other], gain) for title, each in among.items()}

    def lower(a: Measures, b: Measures) -> float:
        return b.agnostic - a.agnostic

    against = digits[ours], digits["FedAvg"]
    yield Claim(
        "a",
        "On digits the worst client of AdaOMD-TCH is at least 8 points above FedAvg's",
        *verdict({"points beyond 8": gains(*against, lambda a, b: a.worst - b.worst - 8)}),
    )
    yield Claim(
        "b",
        "On digits the mean accuracy of AdaOMD-TCH is at most 1.5 points below FedAvg's",
        *verdict({"points to spare": gains(*against, lambda a, b: a.accuracy - b.accuracy + 1.5)}),
    )
    yield Claim(
        "c",
        "On digits the agnostic loss of AdaOMD-TCH is at least 25% below FedAvg's",
        *verdict({"beyond that": gains(*against, lambda a, b: 0.75 * b.agnostic - a.agnostic)}),
    )
    yield Claim(
        "d",
        "On digits the mean accuracy of AdaOMD-TCH is at least 2 points above the uniform average's",
        *verdict(
            {
                "points beyond 2": gains(
                    digits[ours], digits[uniform], lambda a, b: a.accuracy - b.accuracy - 2
                )
            }
        ),
    )
    yield Claim(
        "e",
        "The adaptive average has a lower agnostic loss than the last iterate",
        *verdict(everywhere(found, ours, last, lower)),
    )
    yield Claim(
        "f",
        "FedFV has a higher mean accuracy than AdaOMD-TCH on MNIST",
        *verdict(everywhere(rest, "FedFV", ours, lambda a, b: a.accuracy - b.accuracy)),
    )
    for key, name in (("g", "FedMGDA+ as sent"), ("h", "FedFV")):
        yield Claim(
            key,
            f"{name} has a lower agnostic loss than AdaOMD-TCH on MNIST",
            *verdict(everywhere(rest, name, ours, lower)),
        )
    yield Claim(
        "i",
        "The adaptive average has a lower agnostic loss than the uniform one",
        *verdict(everywhere(found, ours, uniform, lower)),
    )


if __name__ == "__main__":
    sys.exit(run(__file__, experiment, RECORDED))
