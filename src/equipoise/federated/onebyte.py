"""OneByte: a client says in one byte how far to go along a random direction that everybody can draw."""

import torch
from torch import Tensor

from equipoise.core.card import Card
from equipoise.core.checks import check_positive
from equipoise.federated.algorithm import Algorithm
from equipoise.federated.bytecode import Byte, Exact, present
from equipoise.federated.clientalgorithm import ClientAlgorithm, Loss, Reply, Tensors, View
from equipoise.federated.engine.seeds import generator
from equipoise.federated.ownmodels import PLACE, places
from equipoise.federated.serveralgorithm import Outcome, Round, ServerAlgorithm

CARD = Card(
    name="OneByte",
    shape="federated",
    summary="Goes along seeded random directions, of whose lengths alone clients tell, in a byte each.",
    formula="c_k = byte(-eta_l sum (F_k(w + e z_k) - F_k(w - e z_k)) / 2e); w <- w + eta mean_k c_k z_k",
    title=(
        "Just One Byte (per gradient): "
        "A Note on Low-Bandwidth Decentralized Language Model Finetuning Using Shared Randomness"
    ),
    authors=("Eric Zelikman", "Qian Huang", "Percy Liang", "Nick Haber", "Noah D. Goodman"),
    venue="arXiv",
    year=2023,
    arxiv="2306.10015",
    guarantees=("RANDOM",),
    single="a step along one random direction",
    cost="a byte up, m bytes and 8 down for each client and round, no model ever (buffers besides); "
    "m draws of a model's size",
    use="slow lines and few dimensions that matter, such as the fine-tuning of a model that knows the task",
    avoid="training from nothing: the steps are as noisy as the model is large",
    status="main",
    evidence="one_byte",
)

MODEL, ROUNDS = "model/", "rounds"


class OneByte(Algorithm):
    """Descent along random directions by finite differences, of which one byte is sent.

    Everybody holds the model. In a round client k draws a Gaussian direction z_k from the seed, its place and
    the number of the round, and measures the slope of its loss along it, (F_k(w + e z_k) - F_k(w - e z_k))
    / 2e, on the batch of each local step, always at w. How far its steps, slope times learning rate, lead
    it along z_k it sends as a byte: a sign, and 7 bits for the logarithm in steps of 1/8, so to 6.5% from
    `largest` down to 1.4e-7 times that; less is 0. All then do w <- w + eta mean_k c_k z_k with c_k as the
    byte has it, over those that replied. Whoever was absent gets the bytes of all the rounds it has missed,
    and replays them, to the same bits on one kind of machine; so does a client that has lost its model.

    epsilon: e, 1e-3. largest: 1. learning_rate: eta, 1. seed: of the directions. exact: send the number
    as float64, to see what the rounding costs.

    A number beyond `largest` is cut to it. The authors' code has steps of 1/16, so 8 bits for the logarithm
    and a sign besides, and in one version goes on with the number that was not rounded. Momentum of `Local`
    acts on the numbers as it does on gradients; of weight decay next to nothing arrives, its part along z_k
    over |z_k|^2. Both losses of a slope are taken under the same random draws, such as Dropout's. Buffers,
    such as the statistics of BatchNorm, are averaged as by FedAvg, and travel besides. Clients are trained
    one at a time, for each draws from generators of its own and may have another number of rounds to replay.
    Bytes down grow where clients stay away, up to m a round missed.

    Raises ValueError for an epsilon, a largest or a learning rate that is not positive.
    Source: Zelikman et al. 2023, and the authors' code; after Malladi et al. 2023, and SPSA of Spall 1992.
    """

    def __init__(
        self,
        *,
        epsilon: float = 1e-3,
        largest: float = 1.0,
        learning_rate: float = 1.0,
        seed: int = 0,
        exact: bool = False,
    ) -> None:
        check_positive(epsilon=epsilon, largest=largest, learning_rate=learning_rate)
        code = Exact() if exact else Byte(largest)
        steps = Steps(code, learning_rate, seed)
        super().__init__(SlopeClient(steps, epsilon=epsilon), Log(steps))


class Steps:
    """What server and clients must do alike: draw directions, and go along them."""

    def __init__(self, code: Byte | Exact, learning_rate: float, seed: int) -> None:
        self.code = code
        self.learning_rate = learning_rate
        self.seed = seed

    def __repr__(self) -> str:
        return f"Steps({self.code!r}, learning_rate={self.learning_rate}, seed={self.seed})"

    def direction(self, like: Tensors, place: int, number: int) -> Tensors:
        """Gaussian, of the shapes, dtypes and devices of `like`, whatever the order of its names."""
        return _shaped(self._drawn(like, place, number), like)

    def change(self, like: Tensors, codes: Tensor, number: int) -> Tensors:  # codes: (m,)
        """What is added to a model in round `number`, whose replies are `codes`, a place for each client."""
        here = present(codes)
        numbers = self.learning_rate * self.code.decode(codes) / max(int(here.sum()), 1)
        total = torch.zeros(sum(tensor.numel() for tensor in like.values()), dtype=torch.float64)
        for place in here.nonzero().flatten().tolist():
            total.add_(self._drawn(like, place, number), alpha=float(numbers[place]))
        return _shaped(total, like)

    def _drawn(self, like: Tensors, place: int, number: int) -> Tensor:  # -> (d,)
        draws = generator(self.seed, "direction", place, number)
        return torch.randn(
            sum(tensor.numel() for tensor in like.values()), generator=draws, dtype=torch.float32
        )


def _shaped(vector: Tensor, like: Tensors) -> Tensors:  # (d,) -> {name: shape}
    """Its parts, which are laid out in the order of the sorted names."""
    names = sorted(like)
    parts = dict(zip(names, vector.split([like[name].numel() for name in names]), strict=True))
    return {name: parts[name].view(tensor.shape).to(tensor) for name, tensor in like.items()}


class SlopeClient(ClientAlgorithm):
    """Keeps its model up to date by the log, measures the slope along its direction, and sends its step."""

    batched = False

    def __init__(self, steps: Steps, *, epsilon: float) -> None:
        self.steps = steps
        self.epsilon = epsilon

    def start(self, parameters: Tensors) -> Tensors:
        model = {MODEL + name: tensor for name, tensor in parameters.items()}
        return {**model, ROUNDS: torch.zeros((), dtype=torch.int64)}

    def receive(self, received: Tensors, kept: Tensors, context: Tensors) -> Tensors:
        model = {k.removeprefix(MODEL): tensor for k, tensor in kept.items() if k.startswith(MODEL)}
        if _lost(kept, context):
            return model
        known, first = int(kept[ROUNDS]), int(context["first"])
        for number in range(known, _number(context)):
            change = self.steps.change(model, context["log"][number - first].cpu(), number)
            model = {name: tensor + change[name] for name, tensor in model.items()}
        return model

    def objective(self, loss: Loss, parameters: Tensors, view: View) -> tuple[Tensor, Tensor]:
        direction = self._direction(view)
        with torch.no_grad():
            with torch.random.fork_rng(
                sorted({part.device.index for part in direction.values() if part.is_cuda})
            ):
                ahead = loss(_along(view.anchor, self.epsilon, direction))
            # drawn as before: under another mask of Dropout the difference would be no slope
            behind = loss(_along(view.anchor, -self.epsilon, direction))
        slope = (ahead - behind) / (2 * self.epsilon)
        along = sum((direction[name] * part).sum() for name, part in parameters.items())
        return slope * along, (ahead + behind) / 2

    def reply(self, parameters: Tensors, view: View) -> Reply:
        if _lost(view.kept, view.context):
            return Reply({}, {"code": torch.zeros((), dtype=self.steps.code.dtype)}, view.kept)
        along, square = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for name, part in self._direction(view).items():
            part = part.double()
            along += ((parameters[name] - view.anchor[name]).double() * part).sum().cpu()
            square += part.square().sum().cpu()
        model = {MODEL + name: tensor for name, tensor in view.anchor.items()}
        known = {ROUNDS: torch.full_like(view.kept[ROUNDS], _number(view.context))}
        return Reply({}, {"code": self.steps.code.encode(along / square)}, {**model, **known})

    def _direction(self, view: View) -> Tensors:
        return self.steps.direction(view.anchor, int(view.context["place"]), _number(view.context))


def _along(anchor: Tensors, length: float, direction: Tensors) -> Tensors:
    return {name: at + length * direction[name] for name, at in anchor.items()}


def _number(context: Tensors) -> int:
    """How many rounds came before this one."""
    return int(context["first"]) + len(context["log"])


def _lost(kept: Tensors, context: Tensors) -> bool:
    """Whether rounds are missing between the client's model and the log that it was sent."""
    return int(kept[ROUNDS]) < int(context["first"])


class Log(ServerAlgorithm):
    """Keeps the codes of all rounds, and sends each client those that it has not seen."""

    sends_model = False

    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    def start(self, parameters: Tensors, clients: tuple[str, ...]) -> Tensors:
        m = len(clients)
        log = torch.zeros(0, m, dtype=self.steps.code.dtype)
        return {"log": log, "known": torch.zeros(m, dtype=torch.int32), **places(clients)}

    def context(self, state: Tensors, client: str) -> Tensors:
        place = state[PLACE + client].to(torch.int32)
        first = state["known"][place]
        return {"log": state["log"][int(first) :], "first": first, "place": place}

    def aggregate(self, state: Tensors, round: Round) -> Outcome:
        rows = torch.tensor([int(state[PLACE + name]) for name in round.names])
        number = len(state["log"])
        sent = round.sent["code"].cpu().to(state["log"].dtype)
        codes = torch.zeros(len(round.everyone), dtype=sent.dtype).index_copy(0, rows, sent)
        seen = torch.where(present(sent), number, 0).to(torch.int32)
        known = state["known"].index_copy(0, rows, seen)
        log = torch.cat([state["log"], codes[None]])
        return Outcome(
            self.steps.change(round.parameters, codes, number), {**state, "log": log, "known": known}
        )
