"""ClientApp: a node's part. The loop that trains is the simulator's, so the weights are the same."""

import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import uuid4

import torch

from equipoise.bridges.flower.kept import Kept
from equipoise.bridges.flower.messages import HEAD, MODEL, Head, answer, numbers, tensors
from equipoise.bridges.flower.peer import flwr
from equipoise.core.errors import unknown
from equipoise.core.federation import Federation
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.engine.coordinator import first_model
from equipoise.federated.engine.measure import evaluate
from equipoise.federated.engine.placed import load, parameters_of
from equipoise.federated.engine.task import Task
from equipoise.federated.engine.worker import Worker
from equipoise.federated.federate import described
from equipoise.federated.local import Local
from equipoise.federated.participation import Participation

NAME, PARTITION = "client", "partition-id"
"""The keys of a node's configuration that say which client it is: by name, or by place in the federation."""


@dataclass(frozen=True)
class Parts:
    """What server and clients must have in common for a run."""

    federation: Federation
    algorithm: Algorithm
    local: Local | None = None
    seed: int = 0

    @property
    def schedule(self) -> Local:
        """How clients train; the federation's learning rate where nothing is said."""
        return self.local or Local(learning_rate=self.federation.learning_rate)

    def settings(self) -> str:
        """What must be equal on both sides, as JSON: the clients, the system, its schedule and the seed."""
        told = described(
            self.federation, self.algorithm, self.schedule, Participation(), self.seed, "validation", 1, None
        )
        shared = {key: told[key] for key in ("algorithm", "local", "seed")}
        return json.dumps({"clients": list(self.federation.clients), **shared}, sort_keys=True)


def client_app(
    federation: Federation,
    algorithm: Algorithm,
    local: Local | None = None,
    *,
    seed: int = 0,
    mods: Sequence[Callable[..., Any]] = (),
    device: torch.device | str = "cpu",
) -> Any:
    """A Flower `ClientApp` that trains one client of a federation, for a `Strategy` with the same arguments.

    Which client a node is, its configuration says: `client="alice"`, or `partition-id=0` for the first name
    of `federation.clients`; without either it is the one whose name its key was registered under. A node
    reads that client's examples alone (and `label_counts` where the system asks for them).
    What the system's client part keeps lies in the node's memory; `kept-folder="/path"` in the configuration
    keeps it on disk, for systems such as SCAFFOLD to go on after the server or the node was started again.
    mods: Flower's, around every message.

    Raises ImportError naming the extra `federated` where Flower is not installed. Errors of a client go to
    the server, which leaves it out of the round and says why.
    """
    return client_app_from(lambda _: Parts(federation, algorithm, local, seed), mods=mods, device=device)


def client_app_from(
    parts: Callable[[Mapping[str, Any]], Parts],
    *,
    mods: Sequence[Callable[..., Any]] = (),
    device: torch.device | str = "cpu",
) -> Any:
    """The same, with parts that depend on the run's configuration (`context.run_config`, a mapping)."""
    peer, app = flwr(), flwr("flwr.clientapp").ClientApp(mods=list(mods))
    token = uuid4().hex

    @app.query()
    def query(message: Any, context: Any) -> Any:
        name = _own_name(context, parts(context.run_config).federation.clients)
        content = peer.RecordDict({HEAD: peer.ConfigRecord({"client": name or ""})})
        return peer.Message(content, reply_to=message)

    @app.train()
    def train(message: Any, context: Any) -> Any:
        bench = _bench(token, parts, context, device)
        return peer.Message(bench.train(message.content, context), reply_to=message)

    @app.evaluate()
    def judge(message: Any, context: Any) -> Any:
        bench = _bench(token, parts, context, device)
        return peer.Message(bench.judge(message.content, context), reply_to=message)

    return app


class Bench:
    """What a process needs to train a client, made once."""

    def __init__(self, parts: Parts, device: torch.device | str) -> None:
        self.parts = parts
        self.device = device
        self.settings = parts.settings()
        parts.federation.prepare()
        self.model = first_model(parts.federation, parts.algorithm, parts.seed).to(device)

    @cached_property
    def worker(self) -> Worker:
        """The loop of local steps, shared with the simulator."""
        one = self.parts
        return Worker(one.federation, one.algorithm, self.model, one.schedule, one.seed)

    def train(self, content: Any, context: Any) -> Any:
        """One round of a client: the content of its reply."""
        head = self._head(content, context)
        kept, anew = Kept(context, head.client), False
        parts = ("received", "buffers", "context")
        received, buffers, told = (tensors(content, part, self.device) for part in parts)
        own = kept.before(head.run, head.counted, self.device)
        if own is None:
            own = self.parts.algorithm.client.start(parameters_of(self.model))
            anew = bool(own) and head.counted > 0
        task = Task(head.client, received, buffers, own, told, head.effort)
        trained = self.worker.train(task, head.number)
        if own or trained.reply.kept:
            kept.after(head.run, head.counted, own, head.number, trained.reply.kept)
        reply = answer(trained)
        reply[HEAD] = flwr().ConfigRecord({"anew": anew})
        return reply

    def judge(self, content: Any, context: Any) -> Any:
        """Losses and scores of the models of a message on the client's own examples."""
        head = self._head(content, context)
        reply = flwr().RecordDict()
        model, buffers = deepcopy(self.model), tensors(content, "buffers", self.device)
        for record in content.array_records:
            if not record.startswith(MODEL):
                continue
            load(model, tensors(content, record, self.device) | buffers)
            found = evaluate(
                self.parts.federation,
                {head.client: model},
                (head.client,),
                head.split,  # type: ignore[arg-type]
            )
            values = found[head.client].items()
            reply[record] = numbers(
                {name: torch.tensor(value, dtype=torch.float64) for name, value in values}
            )
        return reply

    def _head(self, content: Any, context: Any) -> Head:
        """The message's words; raises ValueError where it is for another client, or of other settings."""
        head, clients = Head.of(content), self.parts.federation.clients
        if head.client not in clients:
            raise ValueError(unknown("client", head.client, clients))
        own = _own_name(context, clients)
        if own not in (None, head.client):
            raise ValueError(f"this node is client {own!r}, and was asked as {head.client!r}")
        theirs, ours = json.loads(head.settings), json.loads(self.settings)
        other = sorted(k for k in theirs.keys() | ours.keys() if theirs.get(k) != ours.get(k))
        if other:
            said = "; ".join(f"{k} is {theirs.get(k)!r} there and {ours.get(k)!r} here" for k in other)
            raise ValueError(f"server and client differ: {said}")
        return head


def _own_name(context: Any, clients: Sequence[str]) -> str | None:
    """The client that a node's configuration names; None where it names none."""
    config = context.node_config
    if NAME in config:
        if config[NAME] not in clients:
            raise ValueError(unknown("client", str(config[NAME]), clients))
        return str(config[NAME])
    if PARTITION in config:
        place = int(config[PARTITION])
        if not 0 <= place < len(clients):
            raise ValueError(f"{PARTITION} is {place}, and there are {len(clients)} clients")
        return clients[place]
    return None


_benches: dict[tuple[str, str], Bench] = {}


def _bench(
    token: str, parts: Callable[[Mapping[str, Any]], Parts], context: Any, device: torch.device | str
) -> Bench:
    """One for each app and configuration, outside of the app, which Flower copies between processes."""
    key = token, json.dumps(dict(context.run_config), sort_keys=True, default=str)
    if key not in _benches:
        _benches.clear()
        _benches[key] = Bench(parts(context.run_config), device)
    return _benches[key]
