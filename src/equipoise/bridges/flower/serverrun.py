"""One run of a strategy: rounds that wait as long as they should, closed by the engine's own code."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from equipoise.bridges.flower.messages import HEAD, MODEL, Head, answered, arrays, side
from equipoise.bridges.flower.nodes import Arrived, Nodes
from equipoise.bridges.flower.peer import flwr
from equipoise.core.problem import Split
from equipoise.federated.clientalgorithm import Tensors
from equipoise.federated.engine.choice import Choice
from equipoise.federated.engine.coordinator import Coordinator
from equipoise.federated.engine.history import Record
from equipoise.federated.engine.quarantine import admit
from equipoise.federated.federate import Finished, finished

if TYPE_CHECKING:
    from equipoise.bridges.flower.strategy import Strategy

LOG = logging.getLogger("flwr")
TELL = 30.0
"""Seconds between two words on whom a round waits for."""


class NoQuorum(RuntimeError):
    """Too few clients answered within the time of a round; the message names the others."""


@dataclass
class _Gathered:
    """What an exchange came to."""

    contents: dict[str, Any] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    def settle(self, arrived: Arrived) -> None:
        if arrived.gone:
            self.gone.add(arrived.client)
        elif arrived.fault:
            self.faults[arrived.client] = arrived.fault
        else:
            self.contents[arrived.client] = arrived.content


class Run:
    """One `start`."""

    def __init__(self, strategy: "Strategy", grid: Any) -> None:
        self.strategy = strategy
        self.settings = strategy.parts.settings()
        federation, algorithm = strategy.parts.federation, strategy.parts.algorithm
        if strategy.judged_by == "server":
            federation.prepare()
        self.server = Server(
            federation,
            algorithm,
            seed=strategy.parts.seed,
            local=strategy.parts.schedule,
            participation=strategy.participation,
            watch=strategy.watch,
            evaluate_every=strategy.evaluate_every,
            rounds=strategy.rounds,
            device=strategy.device,
            folder=strategy.folder(),
        )
        self.server.run = self
        self.nodes = Nodes(grid, federation.clients)
        self.token = self.server.noted.get("run") or uuid4().hex
        self.joined = time.monotonic() + strategy.joining

    def round(self) -> Record:
        """One round, from the draw of the clients to the kept checkpoint."""
        turn, messages = self.server.open()
        number = self.server.number + 1
        counted = {name: record.number for record in self.server.history for name in record.loss}
        wanted = {m.client: m for m in messages if m.client not in turn.lost}
        records: dict[int, Any] = {}

        def content(client: str) -> Any:
            message = wanted[client]
            head = Head(client, self.token, self.settings, number, counted.get(client, 0), message.effort)
            parts = {"received": message.received, "buffers": message.buffers, "context": message.context}
            return flwr().RecordDict({HEAD: head.record()} | _shared(parts, records))

        need = self._need(len(wanted))
        got = self._exchange("train", number, list(wanted), content, need)
        trained, faults = [], dict(got.faults)
        for client, reply in got.contents.items():
            try:
                trained.append(answered(client, reply, self.strategy.device))
            except ValueError as error:
                faults[client] = str(error)
            if reply.config_records.get(HEAD, {}).get("anew"):
                LOG.warning("client %s has lost what it kept, and began anew in round %d", client, number)
        replies, refused = admit(trained, turn.names, self.server.parameters)
        faults |= refused
        lost = [name for name in wanted if name not in got.contents and name not in faults]
        found = 0 if replies is None else len(replies.names)
        if found < need and (found or lost):
            raise NoQuorum(self._short(number, found, need, lost, faults))
        return self.server.close(turn, messages, replies, faults, lost=lost, noted={"run": self.token})

    def judge(self, split: Split, models: Mapping[str, Callable[[str], Tensors]], buffers: Tensors) -> Any:
        """{label: {client: {"loss", "score"}}} as the nodes find it; who does not answer is left out."""
        number = self.server.number + 1
        records: dict[int, Any] = {}

        def content(client: str) -> Any:
            head = Head(client, self.token, self.settings, number, split=split)
            parts = {f"{MODEL}{label}": of(client) for label, of in models.items()} | {"buffers": buffers}
            return flwr().RecordDict({HEAD: head.record()} | _shared(parts, records))

        got = self._exchange("evaluate", number, self.server.clients, content, 0)
        for client, fault in got.faults.items():
            LOG.warning("client %s could not judge: %s", client, fault)
        judged: dict[str, dict[str, dict[str, float]]] = {label: {} for label in models}
        for client in self.server.clients:
            for label in models if client in got.contents else ():
                found = side(got.contents[client], f"{MODEL}{label}")
                if {"loss", "score"} <= found.keys():
                    judged[label][client] = {name: float(found[name]) for name in ("loss", "score")}
        return judged

    def finished(self) -> Finished:
        """The models, the history, and how they do on test examples."""
        strategy, server = self.strategy, self.server
        at_server = strategy.test and strategy.judged_by == "server"
        found = finished(server, Choice(1, "each client has its node"), test=at_server)
        if not strategy.test or strategy.judged_by != "nodes":
            return found
        outputs = server.algorithm.server.outputs(server.state, server.parameters)

        def same(tensors: Tensors) -> Callable[[str], Tensors]:
            return lambda _: tensors

        models = {"last": server.sent_to(server.parameters, server.state)}
        models |= {label: same(tensors) for label, tensors in outputs.items()}
        return replace(found, test=self.judge("test", models, server.buffers))

    def _need(self, wanted: int) -> int:
        quorum = self.strategy.quorum
        return min(wanted, max(1, math.ceil(quorum * wanted) if isinstance(quorum, float) else quorum))

    def _short(
        self, number: int, found: int, need: int, lost: Sequence[str], faults: Mapping[str, str]
    ) -> str:
        told = [f"{name}: {why}" for name, why in faults.items()]
        told += [f"{name}: {'late' if name in self.nodes.seen else 'has no node'}" for name in lost]
        told += [f"node {node}: {why}" for node, why in self.nodes.refused.items()]
        folder = self.strategy.checkpoint
        held = f"{folder} holds round {number - 1}" if folder else "there is no checkpoint"
        return f"round {number}: {found} usable updates, and a quorum is {need}. {'; '.join(told)}; {held}"

    def _exchange(
        self, kind: str, number: int, wanted: Sequence[str], content: Callable[[str], Any], need: int
    ) -> _Gathered:
        """Send each client its message once it is free, and wait for replies as long as it makes sense."""
        nodes, got, asked = self.nodes, _Gathered(), set[str]()
        began = tell = time.monotonic()
        end, pause = began + self.strategy.timeout, 0.02
        while True:
            for arrived in nodes.poll():
                if (arrived.kind, arrived.number) == (kind, number):
                    got.settle(arrived)
                    pause = 0.02
            left = [c for c in wanted if c not in got.contents and c not in got.faults and c not in got.gone]
            now = time.monotonic()
            if not left or now >= end:
                return got
            free = [client for client in left if client not in asked and nodes.idle(client)]
            if free:
                for failed in nodes.send(kind, number, {c: content(c) for c in free}, end - now):
                    got.settle(failed)
                asked.update(free)
            at_work = [client for client in left if client in asked]
            awaited = [client for client in left if client not in asked and self._awaited(client, now)]
            if not at_work and not awaited and len(got.contents) >= need:
                return got
            if now - tell >= TELL:
                tell = now
                LOG.info("round %d, %s: waits for %s", number, kind, self._whom(left, asked))
            time.sleep(pause)
            pause = min(1.2 * pause, 0.5)

    def _awaited(self, client: str, now: float) -> bool:
        return client not in self.nodes.seen and now < self.joined

    def _whom(self, left: Sequence[str], asked: set[str]) -> str:
        def state(client: str) -> str:
            if client in asked:
                return "at work"
            return "busy or gone" if client in self.nodes.seen else "no node yet"

        return ", ".join(f"{client} ({state(client)})" for client in left)


class Server(Coordinator):
    """The engine's coordinator, whose models are judged by whom the strategy says."""

    run: Run

    def judge(
        self,
        split: Split,
        parameters: Tensors | None = None,
        state: Tensors | None = None,
        buffers: Tensors | None = None,
    ) -> dict[str, dict[str, float]]:
        if self.run.strategy.judged_by == "server":
            return super().judge(split, parameters, state, buffers)
        if self.run.strategy.judged_by is None:
            return {}
        parameters = self.parameters if parameters is None else parameters
        sent = self.sent_to(parameters, self.state if state is None else state)
        return self.run.judge(split, {"last": sent}, self.buffers if buffers is None else buffers)["last"]

    def sent_to(self, parameters: Tensors, state: Tensors) -> Callable[[str], Tensors]:
        """The model that each client would be sent."""
        return lambda client: self.algorithm.server.received(state, parameters, client)


def _shared(parts: Mapping[str, Tensors], made: dict[int, Any]) -> dict[str, Any]:
    """Records of tensors; those of one mapping are made once, for all clients that are sent it."""
    for tensors in parts.values():
        if id(tensors) not in made:
            made[id(tensors)] = arrays(tensors), tensors  # holding the mapping keeps its id from being reused
    return {name: made[id(tensors)][0] for name, tensors in parts.items() if tensors}


def told(record: Record, rounds: int) -> str:
    """A round in one line: how many counted, who was lost, who was refused and why."""
    words = [f"round {record.number} of {rounds}: {len(record.loss)} of {len(record.asked)} clients counted"]
    words += [f"{name} lost" for name in record.lost]
    words += [f"{name} refused, {why}" for name, why in record.quarantined.items()]
    return "; ".join(words)
