"""Coordinator: a run as the server sees it, whatever carries the messages."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from equipoise.core.bundle import Bundle
from equipoise.core.federation import Federation
from equipoise.core.problem import Split
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import Tensors
from equipoise.federated.engine.checkpoint import Folder
from equipoise.federated.engine.history import Record
from equipoise.federated.engine.measure import evaluate
from equipoise.federated.engine.placed import buffers_of, load, parameters_of
from equipoise.federated.engine.quarantine import NoUpdates
from equipoise.federated.engine.seeds import generator
from equipoise.federated.engine.task import Replies
from equipoise.federated.local import Local
from equipoise.federated.participation import Participation, Turn
from equipoise.federated.serveralgorithm import Round

MOST = 64
"""Updates, at most, whose conflict is measured in a round."""


@dataclass(frozen=True, slots=True)
class Message:
    """What the server sends one client in a round."""

    client: str
    received: Tensors
    buffers: Tensors
    context: Tensors
    effort: float


class Coordinator:
    """The model, the server's state and the history; each round is opened, and closed once or not at all.

    With a `folder` every closed round is kept there, and what it holds already is where the run begins.
    `extra` tensors of an engine (what simulated clients keep) are kept with it by `close`.
    """

    def __init__(
        self,
        federation: Federation,
        algorithm: Algorithm,
        *,
        seed: int = 0,
        local: Local | None = None,
        participation: Participation | None = None,
        watch: Split = "validation",
        evaluate_every: int = 1,
        rounds: int = 0,
        device: torch.device | str = "cpu",
        folder: Folder | None = None,
    ) -> None:
        self.federation = federation
        self.algorithm = algorithm
        self.clients = federation.clients
        self.seed = seed
        self.local = local or Local(learning_rate=federation.learning_rate)
        self.participation = participation or Participation()
        self.participation.check(self.clients)
        self.watch: Split = watch
        self.evaluate_every = evaluate_every
        self.rounds = rounds
        self.folder = folder
        self.model = first_model(federation, algorithm, seed).to(device)
        self.parameters = parameters_of(self.model)
        self.buffers = buffers_of(self.model)
        self.state = algorithm.server.start(self.parameters, self.clients)
        self.number = 0
        self.history: list[Record] = []
        self.restored: dict[str, Tensors] = {}
        self.noted: dict[str, str] = {}
        if folder is not None:
            self._restore(folder)

    def open(self) -> tuple[Turn, list[Message]]:
        """Who is asked in the next round, and what each is sent."""
        turn = self.participation.turn(self.clients, self.seed, self.number + 1)
        server, messages = self.algorithm.server, []
        for name, effort in zip(turn.names, turn.efforts, strict=True):
            sent = server.received(self.state, self.parameters, name) if server.sends_model else {}
            context = server.context(self.state, name)
            messages.append(Message(name, sent, self.buffers, context, effort))
        return turn, messages

    def close(
        self,
        turn: Turn,
        messages: Sequence[Message],
        replies: Replies | None,
        faults: Mapping[str, str],
        *,
        lost: Sequence[str] = (),
        extra: Mapping[str, Tensors] | None = None,
        noted: Mapping[str, str] | None = None,
    ) -> Record:
        """Take the replies in, and keep the round.

        A round in which nobody who was asked could answer leaves the model as it is. Raises NoUpdates
        where there were replies, or clients that failed, and none can be used; nothing has changed then.
        """
        number = self.number + 1
        gone = tuple(name for name in turn.names if name in turn.lost or name in lost)
        if replies is None and faults:
            told = "; ".join(f"{name}: {reason}" for name, reason in faults.items())
            raise NoUpdates(f"round {number}: no update can be used. {told}")
        record = Record(
            number=number,
            asked=turn.names,
            lost=gone,
            quarantined=dict(faults),
            down=sizes(messages),
            up=0 if replies is None else sum(map(size, replies.parts)),
        )
        parameters, state, buffers = self.parameters, self.state, self.buffers
        if replies is not None:
            record, parameters, state, buffers = self._aggregated(replies, record)
        if number % self.evaluate_every == 0 or number == self.rounds:
            record = replace(record, judged=self.judge(self.watch, parameters, state, buffers))
        if self.folder is not None:
            groups = {"model": parameters, "buffers": buffers, "server": state, **(extra or {})}
            self.folder.save(record, groups, noted or {})
        self.parameters, self.state, self.buffers = parameters, state, buffers
        self.number = number
        self.history.append(record)
        return record

    def judge(
        self,
        split: Split,
        parameters: Tensors | None = None,
        state: Tensors | None = None,
        buffers: Tensors | None = None,
    ) -> dict[str, dict[str, float]]:
        """{client: {"loss", "score"}} of the model that each client would be sent, on a split.

        A client whose examples cannot be had is left out; where none can, the error is raised.
        """
        parameters = self.parameters if parameters is None else parameters
        state = self.state if state is None else state
        buffers = self.buffers if buffers is None else buffers
        server, models, known = self.algorithm.server, {}, {}
        clients = able(self.federation, self.clients, split)
        for name in clients:
            own = server.received(state, parameters, name)
            if id(own) not in known:
                known[id(own)] = own, self.placed(own, buffers)
            models[name] = known[id(own)][1]
        return evaluate(self.federation, models, clients, split)

    def placed(self, parameters: Tensors, buffers: Tensors | None = None) -> nn.Module:
        """A model of its own with these parameters."""
        model = deepcopy(self.model)
        load(model, parameters | (self.buffers if buffers is None else buffers))
        return model

    def _aggregated(self, replies: Replies, record: Record) -> tuple[Record, Tensors, Tensors, Tensors]:
        bundle = Bundle(replies.names, replies.update)
        chances = [self.participation.chance(name, self.clients) for name in replies.names]
        round = Round(
            record.number,
            self.clients,
            self.parameters,
            bundle,
            replies.sent,
            replies.side,
            torch.tensor(chances, dtype=torch.float64),
            self.local,
        )
        with torch.no_grad():
            outcome = self.algorithm.server.aggregate(self.state, round)
            parameters = dict(self.parameters)
            for name, change in outcome.update.items():
                parameters[name] = parameters[name] + change.to(parameters[name])
            bad = [name for name, tensor in parameters.items() if not bool(tensor.isfinite().all())]
            if bad:
                raise ValueError(
                    f"round {record.number}: the update of {bad[0]!r} is not finite, of finite replies; "
                    "the model is left as it was. A smaller learning rate may help"
                )
            buffers = self.buffers | self.algorithm.server.buffers(round, outcome, replies.buffers)
        weights = (
            {} if outcome.weights is None else dict(zip(replies.names, outcome.weights.tolist(), strict=True))
        )
        loss = dict(zip(replies.names, replies.side["loss_during"].tolist(), strict=True))
        measured = record.number % self.evaluate_every == 0 or record.number == self.rounds
        record = replace(
            record,
            weights=weights,
            loss=loss,
            notes=dict(outcome.notes),
        )
        if measured and replies.update and len(bundle) > 1:
            some = bundle if len(bundle) <= MOST else bundle.subset(bundle.names[:MOST])
            cosines = some.cosines()
            whole = {"names": list(some.names), "rows": cosines.tolist()}
            last = record.number == self.rounds
            record = replace(record, conflict=conflict(cosines), cosines=whole if last else {})
        return record, parameters, outcome.state, buffers

    def _restore(self, folder: Folder) -> None:
        device = next(self.model.parameters()).device
        number, groups, records, noted = folder.load(device)
        if not number:
            return
        self.parameters = {name: groups["model"][name].to(device) for name in self.parameters}
        self.buffers = {name: groups["buffers"][name].to(device) for name in self.buffers}
        self.state: Tensors = groups.get("server", {})
        self.restored = {k: v for k, v in groups.items() if k not in ("model", "buffers", "server")}
        self.number, self.history, self.noted = number, records, noted


def first_model(federation: Federation, algorithm: Algorithm, seed: int) -> nn.Module:
    """The model of a seed, the same in every process; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(seed, "model").initial_seed())
        return algorithm.adapt(federation.model())


def able(federation: Federation, clients: Sequence[str], split: Split) -> tuple[str, ...]:
    """The clients whose examples of a split can be had; raises the first error where there are none."""
    found: list[str] = []
    errors: list[Exception] = []
    for name in clients:
        try:
            federation.examples(name, split)
        except Exception as error:
            errors.append(error)
        else:
            found.append(name)
    if not found:
        raise errors[0]
    return tuple(found)


def sizes(messages: Sequence[Message]) -> int:
    """Bytes of all messages."""
    parts = [part for one in messages for part in (one.received, one.buffers, one.context) if part]
    each = {id(part): size(part) for part in {id(part): part for part in parts}.values()}
    return sum(each[id(part)] for part in parts)


def size(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of tensors as they are sent."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def conflict(cosines: Tensor) -> dict[str, float]:  # (m, m)
    """How the m > 1 updates of a round stand to each other."""
    above = cosines[torch.triu_indices(len(cosines), len(cosines), 1).unbind()]
    return {
        "mean": float(above.mean()),
        "least": float(above.min()),
        "opposed": float((above < 0).double().mean()),
    }
