"""Part (d) of orthogonal_update: split digits, one task after the other, with a small memory of the past."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import torch
from _experiment import Claim, Table, interval, spread, verdict
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

import equipoise
from equipoise.aggregation import AGEM, GEM, OrthogonalUpdate, Sum
from equipoise.core.rule import Rule

TUNING = 1000  # seeds from here on are for tuning
TASKS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))
MEMORY = 20  # examples of each past task
BATCH = 10
RATES = (0.003, 0.01, 0.03, 0.1, 0.3)


@dataclass(frozen=True)
class Method:
    """A rule, and what it is given of the past: nothing, one loss over all of it, or one for each task."""

    rule: Callable[[], Rule]
    past: str


METHODS: Mapping[str, Method] = {
    "no memory": Method(Sum, "nothing"),
    "A-GEM": Method(lambda: AGEM(primary="task"), "one"),
    "GEM": Method(lambda: GEM(primary="task"), "each"),
    "replay by the sum": Method(Sum, "one"),
    "orthogonal": Method(lambda: OrthogonalUpdate(primary="task"), "one"),
}

Examples = tuple[Tensor, Tensor]


def split_digits(seed: int) -> list[dict[str, Examples]]:
    """Each task's training, validation and test examples; which of its two digits is the label."""
    data = load_digits()
    pixels = torch.from_numpy(data.data).float().div(16)
    digits = torch.from_numpy(data.target)
    drawn = torch.Generator().manual_seed(seed)
    found = []
    for first, second in TASKS:
        members = torch.where((digits == first) | (digits == second))[0]
        members = members[torch.randperm(len(members), generator=drawn)]
        ends = (0, int(0.6 * len(members)), int(0.8 * len(members)), len(members))
        parts = zip(("train", "validation", "test"), ends, ends[1:], strict=False)
        found.append(
            {
                name: (pixels[members[start:end]], (digits[members[start:end]] == second).long())
                for name, start, end in parts
            }
        )
    return found


@torch.no_grad()
def accuracy(model: nn.Module, examples: Examples) -> float:
    return 100 * float((model(examples[0]).argmax(1) == examples[1]).double().mean())


@dataclass(frozen=True)
class Outcome:
    """Accuracy at the end, fall of past tasks from their best, accuracy on each task when new; means."""

    final: float
    forgotten: float
    learnt: float


def train(method: Method, rate: float, passes: int, seed: int, split: str) -> Outcome:
    tasks = split_digits(seed)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    optimizer = torch.optim.SGD(model.parameters(), rate)
    drawn = torch.Generator().manual_seed(seed)
    rule, past, table = method.rule(), [], []
    for task in tasks:
        inputs, labels = task["train"]
        for _ in range(passes):
            for picks in torch.randperm(len(labels), generator=drawn).split(BATCH):
                losses = {"task": functional.cross_entropy(model(inputs[picks]), labels[picks])}
                losses |= memories(model, past, method.past)
                optimizer.zero_grad()
                equipoise.backward(losses, rule)
                optimizer.step()
        past.append((inputs[:MEMORY], labels[:MEMORY]))
        table.append([accuracy(model, one[split]) for one in tasks])
    last = table[-1]
    count = len(tasks)
    fallen = [max(table[t][j] for t in range(j, count - 1)) - last[j] for j in range(count - 1)]
    return Outcome(mean(last), mean(fallen), mean(table[j][j] for j in range(count)))


def memories(model: nn.Module, past: Sequence[Examples], kind: str) -> dict[str, Tensor]:
    """The losses over the memory of past tasks."""
    if kind == "nothing" or not past:
        return {}
    if kind == "one":
        past = [(torch.cat([one for one, _ in past]), torch.cat([one for _, one in past]))]
    return {
        f"memory {number}": functional.cross_entropy(model(inputs), labels)
        for number, (inputs, labels) in enumerate(past)
    }


def tuned(method: Method, rates: Sequence[float], passes: int, seeds: int) -> float:
    def final(rate: float) -> float:
        runs = (train(method, rate, passes, TUNING + seed, "validation") for seed in range(seeds))
        return mean(one.final for one in runs)

    return max(rates, key=final)


def continual(fast: bool) -> Iterator[Table | Claim]:
    passes, seeds, tuning = (1, 2, 1) if fast else (3, 10, 3)
    rates = RATES[2:3] if fast else RATES
    found: dict[str, list[Outcome]] = {}
    rows = []
    for name, method in METHODS.items():
        rate = tuned(method, rates, passes, tuning)
        found[name] = [train(method, rate, passes, seed, "test") for seed in range(seeds)]
        keys = ("final", "forgotten", "learnt")
        rows.append((name, rate, *(spread([getattr(one, key) for one in found[name]], 1) for key in keys)))
    yield Table(
        f"(d) split digits, {passes} passes over each of {len(TASKS)} tasks, {MEMORY} examples of each kept, "
        f"{seeds} seeds, test data",
        ("method", "rate", "accuracy at the end %", "forgotten, points", "accuracy when new %"),
        rows,
    )

    def better(name: str, key: str, sign: int) -> list[float]:
        pairs = zip(found["no memory"], found[name], strict=True)
        return [sign * (getattr(ours, key) - getattr(plain, key)) for plain, ours in pairs]

    for key, measure, sign, text in (
        ("d", "forgotten", -1, "forget less than training without a memory"),
        ("d-end", "final", 1, "end more accurate than training without a memory"),
    ):
        advantages = {f"points, {name}": interval(better(name, measure, sign)) for name in ("GEM", "A-GEM")}
        yield Claim(key, f"GEM and A-GEM {text}", *verdict(advantages))
    ends = [a.final - b.final + 2 for a, b in zip(found["A-GEM"], found["GEM"], strict=True)]
    yield Claim(
        "d-average",
        "A-GEM ends as accurate as GEM or better, to 2 points",
        *verdict({"points above GEM less 2": interval(ends)}),
    )
