"""Federated runs of which every round is seen: what the server had, and what it made of it."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from equipoise.core.bundle import Bundle
from equipoise.federated import Local, Outcome, Round, federate
from equipoise.problems import federation

WHOLE = Local(steps=3, batch_size=None, learning_rate=0.2)


@dataclass(frozen=True)
class Seen:
    """One call of `aggregate`."""

    state: dict
    round: Round
    outcome: Outcome

    @property
    def updates(self):  # -> (m, d)
        """What each client sent, NumPy."""
        return flat(self.round.bundle.blocks, rows=True)

    @property
    def step(self):  # -> (d,)
        """What the server made of it, NumPy."""
        return flat(self.outcome.update)

    def losses(self, key):  # -> (m,)
        return self.round.side[key].numpy()


def digits(**options):
    """Five clients of rotated digits, softmax regression in float64."""
    settings = {"client_count": 5, "train": 200, "network": "softmax", "dtype": "float64", "split": "classes"}
    return federation("digits-clients", **(settings | options))


def run(algorithm, rounds=2, **options):
    """The finished run, and what was seen of each round."""
    seen, aggregate = [], algorithm.server.aggregate

    def watched(state, round):
        before = {name: tensor.clone() for name, tensor in state.items()}
        outcome = aggregate(state, round)
        assert all(
            torch.equal(state[name], tensor) or tensor.isnan().any() for name, tensor in before.items()
        )
        seen.append(Seen(before, round, outcome))
        return outcome

    algorithm.server.aggregate = watched
    try:
        settings = {"local": WHOLE, "test": False, "batching": "loop"} | options
        finished = federate(settings.pop("on", None) or digits(), algorithm, rounds=rounds, **settings)
    finally:
        del algorithm.server.aggregate
    return finished, seen


def flat(blocks, rows=False):
    """Tensors by name as one vector, or one for each row."""
    parts = [t.reshape(len(t), -1) if rows else t.reshape(-1) for t in blocks.values()]
    return torch.cat(parts, -1).detach().double().numpy()


def invented(updates, losses, *, everyone=None, number=1, **sent):
    """A round of given updates (m, d) and losses (m,), clients "a", "b" ... in order, model at zero."""
    names = tuple("abcdefgh"[: len(updates)])
    vectors = torch.as_tensor(np.asarray(updates), dtype=torch.float64)
    measured = torch.as_tensor(losses, dtype=torch.float64)
    extra = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in sent.items()}
    ones = torch.ones(len(names), dtype=torch.float64)
    return Round(
        number,
        everyone or names,
        {"w": torch.zeros(vectors.shape[1], dtype=torch.float64)},
        Bundle(names, {"w": vectors}),
        extra,
        {"samples": ones, "steps": ones, "loss": measured, "loss_during": measured},
        ones,
    )


def answers(algorithm, round, state=None):
    """What a server makes of a round, from a state or from the first one; everything in it is finite."""
    server = algorithm.server
    with torch.no_grad():
        outcome = server.aggregate(
            server.start(round.parameters, round.everyone) if state is None else state, round
        )
    for tensor in outcome.update.values():
        assert bool(tensor.isfinite().all())
    return outcome


def edges(algorithm, **sent):
    """Hard rounds; each must give a finite update, for one reply or equal ones one along them."""
    rows = {name: torch.full((3,), value) for name, value in sent.items()}
    one = {name: torch.full((1,), value) for name, value in sent.items()}
    single = answers(algorithm, invented([[1.0, -2.0]], [0.7], **one)).update["w"]
    assert single[0] > 0
    assert single[1] == -2 * single[0]
    equal = answers(algorithm, invented([[1.0, -2.0]] * 3, [0.7, 0.1, 0.4], **rows)).update["w"]
    assert equal[0] > 0
    assert abs(equal[1] + 2 * equal[0]) < 1e-12
    opposed = [[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]
    answers(algorithm, invented(opposed, [0.0, 0.0, 0.0], **rows))
    nothing = answers(algorithm, invented([[0.0, 0.0]] * 3, [1.0, 2.0, 3.0], **rows)).update["w"]
    assert nothing.tolist() == [0, 0]
    answers(algorithm, invented([[1e-12, 0.0], [0.0, 1e12], [1.0, 1.0]], [1e-9, 1e3, 1.0], **rows))
    away = invented(
        [[1.0, 0.0], [0.0, 1.0]],
        [1.0, 2.0],
        everyone=("a", "x", "b"),
        **{name: torch.full((2,), value) for name, value in sent.items()},
    )
    first = answers(algorithm, away)
    answers(algorithm, replace(away, number=2), first.state)


def ways_agree(algorithm):
    """Weights after two rounds, one client at a time and all at once."""
    both = []
    for way in ("loop", "batched"):
        finished, _ = run(algorithm, batching=way, on=digits(network="mlp"))
        both.append(torch.cat([p.detach().flatten() for p in finished.model.parameters()]))
    torch.testing.assert_close(both[0], both[1], rtol=1e-6, atol=1e-12)
