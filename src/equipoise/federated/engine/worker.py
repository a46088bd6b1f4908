"""Worker: trains one client at a time, on a copy of the model of its own."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from equipoise.core.federation import Examples, Federation
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.clientalgorithm import ClientAlgorithm, Reply, Tensors, View
from equipoise.federated.engine.descent import clipped, descend, moved
from equipoise.federated.engine.measure import ask, judging
from equipoise.federated.engine.placed import BatchLoss, Placed, buffers_of, fill, load
from equipoise.federated.engine.rows import Memory, Rows
from equipoise.federated.engine.seeds import generator
from equipoise.federated.engine.task import Replies, Task, Trained
from equipoise.federated.local import Local


class Worker:
    """Local training of one client after the other; what a node of a deployment runs, too.

    Every draw depends on the seed, the client and the round alone. `model` is that of the algorithm
    (`Algorithm.adapt`); it is copied.
    """

    def __init__(
        self, federation: Federation, algorithm: Algorithm, model: nn.Module, local: Local, seed: int
    ) -> None:
        self.federation = federation
        self.algorithm = algorithm
        self.local = local
        self.seed = seed
        self.model = deepcopy(model).train()
        self.placed = Placed(self.model)
        self.parameters: Tensors = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.leaves = list(self.parameters.values())
        self._own = dict(self.model.named_parameters())
        sent = buffers_of(self.model)
        self._buffers = bool(sent)
        self._unsent = {n: b.detach().clone() for n, b in self.model.named_buffers() if n not in sent}
        self._memory = Memory()
        self.draws_globally = any(_draws(module) for module in self.model.modules())
        self._watched = self.draws_globally
        self.device = next(self.model.parameters()).device

    def train(self, task: Task, number: int, *, measure: bool = True, into: Tensors | None = None) -> Trained:
        """One client's local training of round `number`; `measure` says whether to answer what is asked.

        `into`: where a plain update is written, new tensors by default.
        Raises ValueError for a client without training examples.
        """
        if not self._watched:
            before = torch.get_rng_state()
            trained = self._train(task, number, measure, into)
            self._watched = True
            if torch.equal(before, torch.get_rng_state()):
                return trained
            torch.set_rng_state(before)
            self.draws_globally = True
        if not self.draws_globally:
            return self._train(task, number, measure, into)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(generator(self.seed, "model", task.client, number).initial_seed())
            return self._train(task, number, measure, into)

    def train_all(self, tasks: Sequence[Task], number: int) -> Replies:
        """Round `number` of clients, one after the other; raises ValueError as `train` does."""
        rows = Rows(tuple(task.client for task in tasks), self._memory)
        plain = type(self.algorithm.client).reply is ClientAlgorithm.reply
        for row, task in enumerate(tasks):
            into = rows.updates(row, self.parameters) if plain else None
            rows.put(row, self.train(task, number, into=into))
        return rows.replies()

    def examples(self, client: str) -> Examples:
        """The training examples of a client; raises ValueError where there are none."""
        examples = tuple(part.to(self.device) for part in self.federation.examples(client, "train"))
        if not len(examples[0]):
            raise ValueError(f"client {client!r} has no training examples")
        return examples

    def _train(self, task: Task, number: int, measure: bool, into: Tensors | None) -> Trained:
        client, examples = self.algorithm.client, self.examples(task.client)
        count = len(examples[0])
        plan = planned(self.local, self.seed, task, number, count)
        draws = generator(self.seed, "draws", task.client, number) if draws_for(client) else None
        anchor = client.receive(task.received, task.kept, task.context)
        fill(self._own, anchor)
        if task.buffers or self._unsent:
            load(self.model, self._unsent | task.buffers)
        side = numbers(count, len(plan))
        if measure and self.algorithm.server.asks:
            side |= ask(self.algorithm.server.asks, self.federation, self.model, task.client, examples)
        probed = self._probed(examples) if measure else {}
        momenta: list[Tensor] = []
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        rate = self.local.rate(number)
        steps, samples = side["steps"], side["samples"]
        corrects = type(client).correct is not ClientAlgorithm.correct
        for index in plan:
            batch = examples if len(index) == count else tuple(part[index] for part in examples)
            drawn = {} if draws is None else client.draw(self.parameters, len(index), draws)
            view = View(anchor, task.kept, task.context, rate, steps, samples, drawn, self.local)
            loss = BatchLoss(self.federation, self.placed, batch, own=self.parameters)
            value, data = client.objective(loss, self.parameters, view)
            gradients = list(
                torch.autograd.grad(value, self.leaves, allow_unused=True, materialize_grads=True)
            )
            with torch.no_grad():
                if corrects:
                    named = dict(zip(self.parameters, gradients, strict=True))
                    gradients = list(client.correct(named, self.parameters, view).values())
                gradients = clipped(gradients, self.local.clip)
                gradients, momenta = moved(gradients, self.leaves, momenta, self.local)
                descend(self.leaves, gradients, rate)
            total += data.detach()
        side["loss_during"] = total.cpu() / len(plan)
        with torch.no_grad():
            ends = {name: leaf.detach() for name, leaf in self.parameters.items()}
            if type(client).reply is ClientAlgorithm.reply:
                out = into or dict.fromkeys(ends)
                update = {n: torch.sub(end, anchor[n], out=out[n]) for n, end in ends.items()}
                reply = Reply(update, {}, task.kept)
            else:
                ends = {name: leaf.clone() for name, leaf in ends.items()}
                view = View(anchor, task.kept, task.context, rate, steps, samples, local=self.local)
                reply = client.reply(ends, view)
            reply = replace(reply, sent={**reply.sent, **probed})
            return Trained(task.client, reply, side, buffers_of(self.model) if self._buffers else {})

    def probe(self, task: Task) -> Tensors:
        """What the client part measures of the model it received, before it trains."""
        load(self.model, self.algorithm.client.receive(task.received, task.kept, task.context) | task.buffers)
        return self._probed(self.examples(task.client))

    def _probed(self, examples: Examples) -> Tensors:
        client = self.algorithm.client
        if not probes(client):
            return {}
        loss = BatchLoss(self.federation, self.placed, examples, own=self.parameters)
        with judging(self.model):
            found = client.probe(loss, self.parameters)
        return {name: tensor.detach() for name, tensor in found.items()}


def probes(client: ClientAlgorithm) -> bool:
    """Whether a client part measures anything before it trains."""
    return type(client).probe is not ClientAlgorithm.probe


def planned(local: Local, seed: int, task: Task, number: int, count: int) -> list[Tensor]:
    """The examples of each of a client's steps in round `number`, of the `count` that it has."""
    whole = local.batch_size is None or local.batch_size >= count
    draws = torch.Generator() if whole else generator(seed, "batches", task.client, number)
    return local.batches(count, draws, task.effort)


def draws_for(client: ClientAlgorithm) -> bool:
    """Whether a client part draws random numbers for its steps."""
    return type(client).draw is not ClientAlgorithm.draw


def numbers(samples: int, steps: int) -> Tensors:
    """What every client says of itself."""
    return {
        "samples": torch.tensor(float(samples), dtype=torch.float64),
        "steps": torch.tensor(float(steps), dtype=torch.float64),
    }


def _draws(module: nn.Module) -> bool:
    """Whether a module draws from torch's global generator while it trains."""
    dropout = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
    return dropout or (isinstance(module, nn.RNNBase) and module.dropout > 0)
