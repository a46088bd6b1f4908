"""Simulator: all clients of a run in this process, together or one after the other."""

import json
from collections.abc import Mapping, Sequence
from typing import get_args

import torch

from equipoise.core.errors import check_choice
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.attacks import Attack
from equipoise.federated.clientalgorithm import ClientAlgorithm, Tensors
from equipoise.federated.engine.batched import Batched
from equipoise.federated.engine.choice import Batching, Choice, choose, obstacle
from equipoise.federated.engine.coordinator import Coordinator, Message
from equipoise.federated.engine.history import Record
from equipoise.federated.engine.measure import ask, by_client, judging
from equipoise.federated.engine.placed import load
from equipoise.federated.engine.quarantine import NoUpdates, admit, finite, stacked
from equipoise.federated.engine.seeds import generator
from equipoise.federated.engine.task import Replies, Task, Trained
from equipoise.federated.engine.worker import Worker, probes

KEPT = "kept"
Failures = dict[str, Exception]


class Simulator:
    """Carries a coordinator's messages to clients of this process.

    What the clients keep lies in one tensor for each name, a row for each client. Where a client's reply is
    refused or lost it keeps what it had before, as if it had not taken part.

    A client whose training raises is left out of the round, by name and with its error; from then on it
    trains apart from the others until it succeeds.

    Raises ValueError where clients cannot be trained in the way that is asked for.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        *,
        batching: Batching = "auto",
        attacks: Mapping[str, Attack] | None = None,
    ) -> None:
        self.coordinator = coordinator
        self.batching: Batching = batching
        self.attacks = dict(attacks or {})
        one = coordinator
        parts = one.federation, one.algorithm, one.model, one.local, one.seed
        self.worker = Worker(*parts)
        self.batched = Batched(*parts)
        check_choice("batching", batching, get_args(Batching))
        found = obstacle(coordinator.model, coordinator.algorithm, self.worker)
        if batching == "batched" and found is not None:
            raise ValueError(f'batching="batched" is not possible: {found}')
        self.place = {name: i for i, name in enumerate(coordinator.clients)}
        self.kept = coordinator.restored.get(KEPT) or self._first_kept(coordinator.algorithm)
        noted = coordinator.noted
        self.choice = Choice(int(noted["together"]), noted["reason"]) if "together" in noted else None
        self._failing: set[str] = set(json.loads(noted.get("failing", "[]")))
        self._sound: set[str] = set()

    def round(self) -> Record:
        """One round, from the draw of the clients to the kept checkpoint.

        Raises NoUpdates where no reply can be used, from the first error of a client where there was one.
        """
        turn, messages = self.coordinator.open()
        number = self.coordinator.number + 1
        tasks = [self._task(message) for message in messages if message.client not in turn.lost]
        replies, faults, failures = self._answered(tasks, number, turn.names) if tasks else (None, {}, {})
        kept = self.kept if replies is None else self._kept_after(replies)
        heard = {*faults, *(() if replies is None else replies.names)}
        silent = [task.client for task in tasks if task.client not in heard]
        try:
            record = self.coordinator.close(
                turn, messages, replies, faults, lost=silent, extra={KEPT: kept}, noted=self._noted()
            )
        except NoUpdates as error:
            raise error from next(iter(failures.values()), None)
        self.kept = kept
        return record

    def _answered(
        self, tasks: Sequence[Task], number: int, asked: Sequence[str]
    ) -> tuple[Replies | None, dict[str, str], Failures]:
        """The replies that can be used, why each other client's cannot, and the errors among the reasons."""
        replies, failures = self._trained(tasks, number)
        faults = {name: told(error) for name, error in failures.items()}
        if replies is None:
            return None, faults, failures
        if not set(self.attacks) & set(replies.names):
            return *finite(replies, faults), failures
        spoilt: list[Trained] = []
        for one in replies.split():
            attack = self.attacks.get(one.client)
            draws = generator(self.coordinator.seed, "attack", one.client, number)
            spoilt.extend([one] if attack is None else attack.replies(one, draws))
        admitted, refused = admit(spoilt, asked, self.coordinator.parameters)
        return admitted, faults | refused, failures

    def _trained(self, tasks: Sequence[Task], number: int) -> tuple[Replies | None, Failures]:
        """The replies of all clients whose training does not raise, in the order of their tasks."""
        many = [task for task in tasks if self._trusted(task.client)]
        found: list[Replies] = []
        chosen = self.choice
        if many:
            try:
                found = [self._together(many, number)]
            except Exception as error:  # of one client, which is found by training each on its own
                alone, failures = self._one_by_one(tasks, number)
                if any(task.client in failures for task in many):
                    self.choice = chosen  # one that was made beside clients that fail says little
                else:
                    self._separate(error)
                return (stacked(alone) if alone else None), failures
        if len(many) == len(tasks):
            return found[0], {}
        names = {task.client for task in many}
        alone, failures = self._one_by_one([task for task in tasks if task.client not in names], number)
        if not alone:
            return (found[0] if found else None), failures
        each = {one.client: one for one in [*alone, *(one for part in found for one in part.split())]}
        return stacked([each[task.client] for task in tasks if task.client in each]), failures

    def _one_by_one(self, tasks: Sequence[Task], number: int) -> tuple[list[Trained], Failures]:
        done: list[Trained] = []
        failures: Failures = {}
        for task in tasks:
            try:
                done.append(self.worker.train(task, number))
            except Exception as error:
                failures[task.client] = error
        self._failing = (self._failing | failures.keys()) - {one.client for one in done}
        return done, failures

    def _trusted(self, client: str) -> bool:
        """Whether a client may train with others: it has examples, and did not fail when it trained last."""
        if client in self._failing:
            return False
        if client not in self._sound:
            try:
                if not len(self.coordinator.federation.examples(client, "train")[0]):
                    return False
            except Exception:  # it is met again where the client trains on its own
                return False
            self._sound.add(client)
        return True

    def _separate(self, error: Exception) -> None:
        """Train one client at a time, for each can and together they cannot."""
        if self.batching == "batched":
            raise error
        if self.choice is None or self.choice.together > 1:
            self.choice = Choice(1, f"together they fail, {told(error)}")

    def _together(self, tasks: Sequence[Task], number: int) -> Replies:
        if self.choice is None:
            self.choice = choose(self.batching, self.worker, self.batched, tasks, number=number)
        if self.choice.together == 1:
            return self.worker.train_all(tasks, number)
        found = self.batched.train_all(tasks, number, self.choice.together)
        found.side.update(self._asked(tasks))
        if probes(self.worker.algorithm.client):
            rows = [self.worker.probe(task) for task in tasks]
            found.sent.update({name: torch.stack([row[name] for row in rows]) for name in rows[0]})
        return found

    def _asked(self, tasks: Sequence[Task]) -> Tensors:
        """What the server asks of the models received, all clients' at once where they are the same."""
        asks, client = self.coordinator.algorithm.server.asks, self.coordinator.algorithm.client
        federation, model = self.worker.federation, self.worker.model
        if not asks:
            return {}
        as_sent = type(client).receive is ClientAlgorithm.receive
        if as_sent and tuple(asks) == ("loss",) and all(t.received is tasks[0].received for t in tasks):
            load(model, tasks[0].received | tasks[0].buffers)
            held = {task.client: self.worker.examples(task.client) for task in tasks}
            with judging(model):
                losses = by_client(federation.losses, model, held)
            return {"loss": torch.tensor([losses[t.client] for t in tasks], dtype=torch.float64)}
        rows = []
        for task in tasks:
            load(model, client.receive(task.received, task.kept, task.context) | task.buffers)
            rows.append(ask(asks, federation, model, task.client, self.worker.examples(task.client)))
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def _task(self, message: Message) -> Task:
        own = {name: rows[self.place[message.client]] for name, rows in self.kept.items()}
        return Task(message.client, message.received, message.buffers, own, message.context, message.effort)

    def _first_kept(self, algorithm: Algorithm) -> Tensors:
        first = algorithm.client.start(self.coordinator.parameters)
        m = len(self.coordinator.clients)
        return {name: tensor.expand(m, *tensor.shape).clone() for name, tensor in first.items()}

    def _kept_after(self, replies: Replies) -> Tensors:
        """What the clients keep once the replies count."""
        if not replies.kept:
            return self.kept
        if replies.names == self.coordinator.clients:
            return {name: replies.kept[name] for name in self.kept}
        rows = torch.tensor([self.place[name] for name in replies.names])
        return {
            name: kept.index_copy(0, rows.to(kept.device), replies.kept[name])
            for name, kept in self.kept.items()
        }

    def _noted(self) -> dict[str, str]:
        noted = {"failing": json.dumps(sorted(self._failing))} if self._failing else {}
        if self.choice is None:
            return noted
        return {"together": str(self.choice.together), "reason": self.choice.reason} | noted


def told(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
