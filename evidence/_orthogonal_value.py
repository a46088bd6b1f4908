"""Parts (a) to (c) of orthogonal_update: the value of an image of which some rows are seen.

A handwritten digit of scikit-learn is read row by row. The state is what was seen so far, the reward the ink
of the next row, and the value the discounted ink that is still to come, which the whole image tells.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from statistics import mean

import torch
from _experiment import Claim, Table, interval, spread, verdict
from sklearn.datasets import load_digits
from torch import Tensor, nn

import equipoise
from equipoise.aggregation import OrthogonalUpdate, Sum
from equipoise.core.rule import Rule

TUNING = 1000  # seeds from here on are for tuning
DISCOUNT = 0.95
ROWS = 8
LOSSES = ("forward", "backward")
BATCH = 64
RATES = (0.0003, 0.001, 0.003, 0.01, 0.03)
LITTLE = (1e-3, 1e-5)  # lengths of trial steps, of the parameters' own; the last one is to the first order

METHODS: Mapping[str, Callable[[], Rule]] = {
    "forward alone": Sum,
    "true gradient": Sum,
    "orthogonal": lambda: OrthogonalUpdate(primary="forward"),
}


@dataclass(frozen=True)
class Images:
    """n images (n, 8, 8) and the ink of their rows (n, 8)."""

    pixels: Tensor

    @property
    def ink(self) -> Tensor:
        return self.pixels.mean(2)

    def states(self, who: Tensor, seen: Tensor) -> Tensor:  # (k,), (k,) -> (k, 72)
        """The rows seen so far, the rest dark, and how many those are."""
        shown = (torch.arange(ROWS) < seen[:, None])[:, :, None] * self.pixels[who]
        return torch.cat([shown.flatten(1), (torch.arange(ROWS) == seen[:, None]).float()], 1)

    def returns(self) -> Tensor:  # -> (n, 8)
        """The discounted ink to come, before each row."""
        found, ahead = [], torch.zeros(len(self.pixels))
        for row in range(ROWS - 1, -1, -1):
            ahead = self.ink[:, row] + DISCOUNT * ahead
            found.append(ahead)
        return torch.stack(found[::-1], 1)


def images(seed: int) -> tuple[Images, Images, Images]:
    """Training, validation and test."""
    pixels = torch.from_numpy(load_digits().data).float().div(16).reshape(-1, 8, 8)
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(seed))
    return Images(pixels[order[:1000]]), Images(pixels[order[1000:1400]]), Images(pixels[order[1400:]])


def value_function() -> nn.Sequential:
    return nn.Sequential(nn.Linear(72, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))


def residuals(model: nn.Module, data: Images, who: Tensor, seen: Tensor) -> dict[str, Tensor]:
    """Half the squared Bellman residual, as a function of the present and of the next state's value alone."""
    here = model(data.states(who, seen))[:, 0]
    there = torch.where(seen + 1 < ROWS, model(data.states(who, seen + 1))[:, 0], 0.0)
    reward = data.ink[who, seen]
    return {
        "forward": (reward + DISCOUNT * there.detach() - here).square().mean() / 2,
        "backward": (reward + DISCOUNT * there - here.detach()).square().mean() / 2,
    }


def chosen(losses: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {"forward": losses["forward"]} if name == "forward alone" else dict(losses)


def draw(data: Images, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    who = torch.randint(len(data.pixels), (BATCH,), generator=generator)
    return who, torch.randint(ROWS, (BATCH,), generator=generator)


def gains(
    model: nn.Module, data: Images, batch: tuple[Tensor, Tensor], little: float
) -> dict[str, dict[str, float]]:
    """How much a little step under each method lowers either loss of the batch, targets held fixed.

    The step is the same multiple of each method's direction, `little` of the parameters' length for the
    direction of the forward gradient.
    """
    found: dict[str, dict[str, float]] = {}
    size = 0.0
    for name, rule in METHODS.items():
        trial = deepcopy(model).double()
        double = Images(data.pixels.double())
        losses = residuals(trial, double, *batch)
        equipoise.backward(chosen(losses, name), rule())
        parameters = list(trial.parameters())
        directions = [parameter.grad.clone() for parameter in parameters]
        if not size:
            length = sum(float(one.detach().square().sum()) for one in parameters) ** 0.5
            size = little * length / sum(float(one.square().sum()) for one in directions) ** 0.5
        before = targets(model, double, batch)
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter -= size * direction
        after = targets(model, double, batch, trial)
        found[name] = {key: before[key] - after[key] for key in before}
    return found


@torch.no_grad()
def targets(
    model: nn.Module, data: Images, batch: tuple[Tensor, Tensor], moved: nn.Module | None = None
) -> dict[str, float]:
    """Both losses where `moved` (or the model itself) stands, with the targets of the model before."""
    old, new = deepcopy(model).double(), deepcopy(moved or model).double()
    who, seen = batch
    reward, last = data.ink[who, seen], seen + 1 >= ROWS
    here = [one(data.states(who, seen))[:, 0] for one in (old, new)]
    there = [one(data.states(who, seen + 1))[:, 0].masked_fill(last, 0.0) for one in (old, new)]
    return {
        "forward": float((reward + DISCOUNT * there[0] - here[1]).square().mean() / 2),
        "backward": float((reward + DISCOUNT * there[1] - here[0]).square().mean() / 2),
    }


@dataclass(frozen=True)
class Outcome:
    """Error of the values, inner product of neighbours' gradients, and each method's gains in each trial."""

    error: float
    together: float
    gained: Mapping[float, list[dict[str, dict[str, float]]]]


def train(name: str, rate: float, steps: int, seed: int, split: str, trials: int = 0) -> Outcome:
    learn, validation, test = images(seed)
    torch.manual_seed(seed)
    model = value_function()
    optimizer = torch.optim.Adam(model.parameters(), rate)
    drawn = torch.Generator().manual_seed(seed)
    rule = METHODS[name]()
    gained: dict[float, list[dict[str, dict[str, float]]]] = {little: [] for little in LITTLE}
    for number in range(steps):
        batch = draw(learn, drawn)
        if trials and number % (steps // trials) == steps // trials // 2:
            for little, found in gained.items():
                found.append(gains(model, learn, batch, little))
        optimizer.zero_grad()
        equipoise.backward(chosen(residuals(model, learn, *batch), name), rule)
        optimizer.step()
    held_out = validation if split == "validation" else test
    return Outcome(error(model, held_out), together(model, held_out), gained)


@torch.no_grad()
def error(model: nn.Module, data: Images) -> float:
    """Root mean squared error of the values against the returns, in hundredths."""
    wanted = data.returns()
    who = torch.arange(len(data.pixels)).repeat_interleave(ROWS)
    seen = torch.arange(ROWS).repeat(len(data.pixels))
    found = model(data.states(who, seen))[:, 0].reshape(-1, ROWS)
    return 100 * float((found - wanted).square().mean().sqrt())


def together(model: nn.Module, data: Images) -> float:
    """Mean inner product of the gradients of V at a state and at the next one, over 200 of them."""
    generator = torch.Generator().manual_seed(0)
    who = torch.randint(len(data.pixels), (200,), generator=generator)
    seen = torch.randint(ROWS - 1, (200,), generator=generator)
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def value(weights: Mapping[str, Tensor], state: Tensor) -> Tensor:
        return torch.func.functional_call(model, dict(weights), (state[None],))[0, 0]

    slopes = torch.func.vmap(torch.func.grad(value), in_dims=(None, 0))
    here, there = (slopes(parameters, data.states(who, part)) for part in (seen, seen + 1))
    products = sum((here[key] * there[key]).flatten(1).sum(1) for key in parameters)
    return float(torch.as_tensor(products).mean())


def tuned(name: str, rates: Sequence[float], steps: int, seeds: int) -> float:
    def badness(rate: float) -> float:
        return mean(train(name, rate, steps, TUNING + seed, "validation").error for seed in range(seeds))

    return min(rates, key=badness)


def values(fast: bool) -> Iterator[Table | Claim]:
    steps, seeds, tuning, trials = (40, 2, 1, 2) if fast else (2000, 8, 2, 20)
    rates = RATES[1:2] if fast else RATES
    found: dict[str, list[Outcome]] = {}
    rows = []
    for name in METHODS:
        rate = tuned(name, rates, steps, tuning)
        tried = trials if name == "orthogonal" else 0
        found[name] = [train(name, rate, steps, seed, "test", tried) for seed in range(seeds)]
        rows.append(
            (
                name,
                rate,
                spread([one.error for one in found[name]]),
                spread([one.together for one in found[name]]),
            )
        )
    yield Table(
        f"(b, c) values of half-read digits, {seeds} seeds, test images",
        ("gradient", "rate", "error in hundredths", "inner product of neighbours' gradients"),
        rows,
    )
    shares = {
        (name, little): [first_order(run, name, little) for run in found["orthogonal"]]
        for little in LITTLE
        for name in METHODS
    }
    yield Table(
        f"(a) what a little step gains, as a share of what the forward gradient alone gains on the forward "
        f"loss; {trials} states of each of {seeds} runs",
        ("gradient", "step, of the parameters' length", "forward loss", "backward loss"),
        [
            (name, little, *(spread([one[key] for one in shares[name, little]]) for key in LOSSES))
            for name, little in shares
        ],
    )
    ours, theirs = (shares[name, LITTLE[-1]] for name in ("orthogonal", "forward alone"))
    yield Claim(
        "a",
        "The forward loss falls as with the forward gradient alone, to 5%, and the backward loss ends lower",
        *verdict(
            {
                "0.05 less the share lost or won": interval([0.05 - abs(one["forward"] - 1) for one in ours]),
                "backward loss spared": interval(
                    [one["backward"] - alone["backward"] for one, alone in zip(ours, theirs, strict=True)]
                ),
            }
        ),
    )

    def better(other: str, key: str) -> list[float]:
        pairs = zip(found[other], found["orthogonal"], strict=True)
        return [getattr(theirs, key) - getattr(mine, key) for theirs, mine in pairs]

    yield Claim(
        "b-true",
        "The orthogonal update learns better values than the true gradient",
        *verdict({"error saved": interval(better("true gradient", "error"))}),
    )
    yield Claim(
        "b-forward",
        "The orthogonal update learns better values than the forward gradient alone",
        *verdict({"error saved": interval(better("forward alone", "error"))}),
    )
    yield Claim(
        "c",
        "The orthogonal update keeps the gradients at neighbouring states further apart than the forward one",
        *verdict({"inner product saved": interval(better("forward alone", "together"))}),
    )


def first_order(run: Outcome, name: str, little: float) -> dict[str, float]:
    """What a method gains on either loss over the trials, over what the forward gradient gains on its own."""
    trials = run.gained[little]
    alone = sum(one["forward alone"]["forward"] for one in trials)
    return {key: sum(one[name][key] for one in trials) / alone for key in LOSSES}
