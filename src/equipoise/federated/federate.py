"""federate: train one model with many clients, in this process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from equipoise.core.federation import Federation
from equipoise.core.problem import Split
from equipoise.core.rule import Rule
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.attacks import Attack
from equipoise.federated.byrule import ByRule
from equipoise.federated.clientalgorithm import Tensors
from equipoise.federated.engine.checkpoint import Folder
from equipoise.federated.engine.choice import Batching, Choice
from equipoise.federated.engine.coordinator import Coordinator
from equipoise.federated.engine.history import Record
from equipoise.federated.engine.measure import evaluate
from equipoise.federated.engine.plain import plain
from equipoise.federated.engine.simulator import Simulator
from equipoise.federated.local import Local
from equipoise.federated.participation import Participation

Judged = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Finished:
    """What a run comes to.

    model: the last iterate. outputs: further models of the algorithm by name, such as an average of
    iterates. history: a record for each round. test: {output: {client: {"loss", "score"}}} on the test
    split, "last" for the last iterate, where it was asked for. choice: how clients were trained.
    """

    model: nn.Module
    outputs: Mapping[str, nn.Module]
    history: tuple[Record, ...]
    test: Mapping[str, Judged]
    choice: Choice | None


def federate(
    federation: Federation,
    algorithm: Algorithm | Rule,
    *,
    rounds: int,
    local: Local | None = None,
    participation: Participation | None = None,
    seed: int = 0,
    batching: Batching = "auto",
    watch: Split = "validation",
    evaluate_every: int | None = None,
    test: bool = True,
    attacks: Mapping[str, Attack] | None = None,
    device: torch.device | str = "cpu",
    out: str | Path | None = None,
    told: Callable[[Record], None] | None = None,
) -> Finished:
    """Train the model of a federation by an algorithm, every client in this process.

    algorithm: a system such as `FedAvg()`, or a rule such as `UPGrad()`, which then combines the updates
    (`ByRule`). rounds: how many. local: how clients train between messages. participation: who takes part
    in a round; all by default. batching: "batched" trains many clients as one computation, "loop" one after
    the other, "auto" tries both for a few steps and takes the faster, as `Finished.choice` says. For a seed
    and a way, results are the same to the last bit; between ways they agree to rounding.
    watch, evaluate_every: which split the history follows, and every how many rounds (default: some
    twenty times in the run). test: measure the test split, once, at the end. attacks: clients that
    misbehave. out: a folder in which every round is kept, and from which a killed run goes on. told: is
    called with the record of each round.

    A client whose examples or training raise an error is left out of the round and named with it in the
    history (`Record.quarantined`), as is one whose reply is not whole or not finite.

    Raises ValueError for settings that do not fit and where `out` holds more rounds than are asked for,
    NoUpdates where no reply of a round can be used, and OtherRun where `out` holds a run of other settings.

    >>> from equipoise.federated import FedAvg, federate
    >>> from equipoise.problems import federation
    >>> finished = federate(federation("digits-clients"), FedAvg(), rounds=2)
    >>> [record.number for record in finished.history]
    [1, 2]
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; it is at least 1")
    if isinstance(algorithm, Rule):
        algorithm = ByRule(algorithm)
    local = local or Local(learning_rate=federation.learning_rate)
    participation = participation or Participation()
    federation.prepare()
    for name in attacks or {}:
        if name not in federation.clients:
            raise ValueError(f"attacks name {name!r}, which is no client of {', '.join(federation.clients)}")
    every = evaluate_every or max(1, rounds // 20)
    settings = described(federation, algorithm, local, participation, seed, watch, evaluate_every, attacks)
    coordinator = Coordinator(
        federation,
        algorithm,
        seed=seed,
        local=local,
        participation=participation,
        watch=watch,
        evaluate_every=every,
        rounds=rounds,
        device=device,
        folder=None if out is None else Folder(out, settings),
    )
    if coordinator.number > rounds:
        raise ValueError(f"{out} holds {coordinator.number} rounds already, more than the {rounds} asked for")
    simulator = Simulator(coordinator, batching=batching, attacks=attacks)
    while coordinator.number < rounds:
        record = simulator.round()
        if told is not None:
            told(record)
    return finished(coordinator, simulator.choice, test=test)


def finished(coordinator: Coordinator, choice: Choice | None = None, *, test: bool) -> Finished:
    """What a coordinator's run has come to; its test split is measured here alone."""
    others = coordinator.algorithm.server.outputs(coordinator.state, coordinator.parameters)
    outputs = {name: coordinator.placed(tensors) for name, tensors in others.items()}
    judged: dict[str, Judged] = {}
    if test:
        judged["last"] = coordinator.judge("test")
        for name, tensors in others.items():
            judged[name] = _of_one(coordinator, tensors)
    model = coordinator.placed(coordinator.parameters)
    return Finished(model, outputs, tuple(coordinator.history), judged, choice)


def described(
    federation: Federation,
    algorithm: Algorithm,
    local: Local,
    participation: Participation,
    seed: int,
    watch: Split,
    evaluate_every: int | None,
    attacks: Mapping[str, Attack] | None,
) -> dict[str, Any]:
    """What is run, as plain values: what must be the same for a run to go on."""
    parts = {"client": algorithm.client, "server": algorithm.server}
    return {
        "federation": plain(federation),
        "algorithm": {"kind": type(algorithm).__name__, **plain(parts)},
        "local": plain(local),
        "participation": plain(participation),
        "seed": seed,
        "watch": watch,
        "evaluate_every": evaluate_every,
        "attacks": plain(attacks or {}),
    }


def _of_one(coordinator: Coordinator, tensors: Tensors) -> Judged:
    model = coordinator.placed(tensors)
    return evaluate(
        coordinator.federation, dict.fromkeys(coordinator.clients, model), coordinator.clients, "test"
    )
