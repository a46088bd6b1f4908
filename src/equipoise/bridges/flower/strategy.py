"""Strategy: the server of a run on Flower."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

from equipoise.bridges.flower.clientapp import Parts
from equipoise.bridges.flower.peer import flwr
from equipoise.bridges.flower.serverrun import Run, told
from equipoise.core.federation import Federation
from equipoise.core.problem import Split
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.engine.checkpoint import Folder
from equipoise.federated.engine.history import Record
from equipoise.federated.federate import Finished, described
from equipoise.federated.local import Local
from equipoise.federated.participation import Participation

LOG = logging.getLogger("flwr")
Judges = Literal["nodes", "server"]


class Strategy:
    """The server of a run on Flower: `Strategy(federation, algorithm, local, rounds=10).start(grid)`.

    The system, the draw of participants, quarantine, history and checkpoint are those of
    `equipoise.federated.federate`, and with the `client_app` of the same arguments so are the weights: for a
    seed they equal the simulator's. Clients are known by name, whatever node they come from.

    rounds, participation, watch, evaluate_every, test: as in `federate`, and on_round as its `told`. quorum:
    how many of the clients that were asked must send an update that can be used, as a count or as a share.
    timeout: seconds of a round. A round ends when all who were asked have answered, or when the time is up;
    then it counts if there is a quorum, and who was late, or has no node, is named in the
    record as lost. A client that is still at work on an older message is not asked anew until it is done, and
    nobody waits for it where there is a quorum without it. Nodes may join late: in the first
    `joining` seconds (default: `timeout`) a round waits for clients that have not come yet.
    checkpoint: a folder of the server in which every round is kept, and from which a new run of the same
    settings goes on. judged_by: "nodes" asks each client to judge the models on its own validation and test
    examples, two more messages to all of them; "server" needs a server that holds the examples; None measures
    nothing.

    Raises ValueError for settings that do not fit, and ImportError naming the extra `federated`.
    """

    def __init__(
        self,
        federation: Federation,
        algorithm: Algorithm,
        local: Local | None = None,
        *,
        rounds: int,
        seed: int = 0,
        participation: Participation | None = None,
        quorum: float = 0.5,
        timeout: float = 600.0,
        joining: float | None = None,
        checkpoint: str | Path | None = None,
        judged_by: Judges | None = "nodes",
        watch: Split = "validation",
        evaluate_every: int | None = None,
        test: bool = True,
        on_round: Callable[[Record], None] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if rounds < 1:
            raise ValueError(f"rounds is {rounds}; it is at least 1")
        if isinstance(quorum, bool) or quorum <= 0 or (isinstance(quorum, float) and quorum > 1):
            raise ValueError(f"quorum is {quorum!r}; it is a count from 1, or a share in (0, 1]")
        if not timeout > 0:
            raise ValueError(f"timeout is {timeout}; it is a number of seconds above 0")
        if judged_by not in ("nodes", "server", None):
            raise ValueError(f'judged_by is {judged_by!r}; it is "nodes", "server" or None')
        self.parts = Parts(federation, algorithm, local, seed)
        self.rounds = rounds
        self.participation = participation or Participation()
        self.quorum = quorum
        self.timeout = timeout
        self.joining = timeout if joining is None else joining
        self.checkpoint = checkpoint
        self.judged_by: Judges | None = judged_by
        self.watch: Split = watch
        self.evaluate_every = evaluate_every or max(1, rounds // 20)
        self.test = test
        self.on_round = on_round
        self.device = device

    def summary(self) -> None:
        """Log what is run, as Flower's strategies do."""
        parts, clients = self.parts, len(self.parts.federation.clients)
        LOG.info("%r on %s with %d clients", parts.algorithm, type(parts.federation).__name__, clients)
        LOG.info("%r, seed %d, %r", parts.schedule, parts.seed, self.participation)
        LOG.info("quorum %s within %s s, checkpoint %s", self.quorum, self.timeout, self.checkpoint)

    def folder(self) -> Folder | None:
        """The checkpoint, None without one; raises OtherRun where it is of a run of other settings."""
        if self.checkpoint is None:
            return None
        parts = self.parts
        settings = described(
            parts.federation,
            parts.algorithm,
            parts.schedule,
            self.participation,
            parts.seed,
            self.watch,
            self.evaluate_every,
            None,
        )
        return Folder(self.checkpoint, settings | {"engine": "flower"})

    def start(self, grid: Any) -> Finished:
        """Run all rounds that are left, over the grid that Flower gives a `ServerApp`.

        Raises NoQuorum where too few clients answered in time, NoUpdates where no reply of a round can be
        used, OtherRun where the checkpoint is of other settings. The checkpoint then holds the rounds before.
        """
        flwr()
        self.summary()
        run = Run(self, grid)
        if run.server.number:
            LOG.info("goes on after round %d, which %s holds", run.server.number, self.checkpoint)
        while run.server.number < self.rounds:
            record = run.round()
            LOG.info(told(record, self.rounds))
            if self.on_round is not None:
                self.on_round(record)
        return run.finished()
