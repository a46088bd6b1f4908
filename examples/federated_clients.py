"""Federated clients: ten of them share a model, and three see their digits turned.

Each client trains on its own data for a while, and the server makes one model of theirs. The mean by examples
serves the many; a system that looks for the worst client gives up some of that for the few.

What to look at: the lowest dot of each row, which is a client that somebody has to answer for, beside the
mean of all, and what the messages cost.

    python examples/federated_clients.py
"""

from collections.abc import Callable, Mapping
from statistics import mean

from _gallery import figure, finish, parser, spread

from equipoise.aggregation import UPGrad
from equipoise.core.rule import Rule
from equipoise.federated import QFFL, SCAFFOLD, AdaOMDTCH, FedAvg, Local, federate
from equipoise.federated.algorithm import Algorithm
from equipoise.problems import federation

SEEDS, ROUNDS = 3, 40
LOCAL = Local(epochs=1, batch_size=32, learning_rate=0.1)
SYSTEMS: Mapping[str, Callable[[], Algorithm | Rule]] = {
    "FedAvg": FedAvg,
    "SCAFFOLD": SCAFFOLD,
    "q-FFL, q = 2": lambda: QFFL(q=2.0),
    "AdaOMD-TCH": lambda: AdaOMDTCH(step_size=0.3),
    "UPGrad of updates": UPGrad,
}


def train(make: Callable[[], Algorithm | Rule], seed: int) -> tuple[dict[str, float], int]:
    """Test accuracy of each client, in %, and the bytes of all messages."""
    clients = federation("digits-clients", split_seed=seed)
    done = federate(clients, make(), rounds=ROUNDS, local=LOCAL, seed=seed)
    output = "adaptive" if "adaptive" in done.test else "last"
    scores = {name: 100 * judged["score"] for name, judged in done.test[output].items()}
    return scores, sum(record.up + record.down for record in done.history)


def main() -> None:
    out = parser(__doc__).parse_args().out
    found, sent = {}, {}
    for name, make in SYSTEMS.items():
        runs = [train(make, seed) for seed in range(SEEDS)]
        found[name], sent[name] = [scores for scores, _ in runs], runs[0][1]
    worst = {name: [min(scores.values()) for scores in runs] for name, runs in found.items()}
    means = {name: [mean(scores.values()) for scores in runs] for name, runs in found.items()}
    for name in found:
        served = f"mean {spread(means[name])} %, worst client {spread(worst[name])} %"
        print(f"{name:18} {served}, {sent[name] / 1e6:.1f} MB")
    best = max(worst, key=lambda name: mean(worst[name]))
    drawn, (plot,) = figure(height=3.6)
    for place, (name, runs) in enumerate(found.items()):
        for number, client in enumerate(runs[0]):
            score = mean(scores[client] for scores in runs)
            plot.plot(score, place, "o", alpha=0.7, color="C1" if number >= 7 else "C0")
        plot.plot(mean(means[name]), place, "|", markersize=20, color="C7")
    plot.plot([], [], "o", color="C1", label="a client that sees digits turned")
    plot.plot([], [], "o", color="C0", label="another client")
    plot.set_yticks(range(len(found)), list(found))
    plot.invert_yaxis()
    plot.set_xlabel(f"test accuracy of each client, % (mean of {SEEDS} seeds; bar: all clients)")
    plot.set_title(f"Ten clients after {ROUNDS} rounds")
    plot.legend(fontsize=8, loc="lower left")
    said = (
        f"Under FedAvg the worst client gets {spread(worst['FedAvg'])} % and all together "
        f"{spread(means['FedAvg'])} %"
    )
    rest = "nothing serves the worst client better"
    if best != "FedAvg":
        rest = f"{best} gives the worst {spread(worst[best])} %, and all together {spread(means[best])} %"
    finish(out, "federated_clients", drawn, f"{said}; {rest}.")


if __name__ == "__main__":
    main()
