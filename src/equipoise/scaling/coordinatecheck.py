"""The coordinate check: whether activations keep their size as a model gets wider, before and after steps."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, AdamW, Optimizer

from equipoise.core.checks import check_count, check_not_negative, check_positive
from equipoise.core.errors import check_choice
from equipoise.scaling.mup import MakeModel, Rule, plan
from equipoise.scaling.mupplan import Plan

Phase = Literal["start", "after", "moved"]
Verdict = Literal["steady", "grows", "shrinks", "unclear", "zero", "not finite"]
Loss = Callable[[Any, Any], Tensor]
Batch = tuple[Any, Any]

PHASES: tuple[Phase, ...] = ("start", "after", "moved")
"""At initialisation, after the steps, and the difference of the two."""


@dataclass(frozen=True, slots=True)
class Slope:
    """How mean |activation| goes with width: width^slope, with 95% bounds over the seeds.

    output: whether the activation has the same size at all widths, as logits do.
    """

    slope: float
    low: float
    high: float
    verdict: Verdict
    output: bool

    def __str__(self) -> str:
        return f"{self.slope:+.2f} [{self.low:+.2f}, {self.high:+.2f}] {self.verdict}"


@dataclass(frozen=True)
class CoordinateCheck:
    """Slopes by phase and layer, `check["after"]["head"]`; "model" is what it gives, if no layer gave that.

    sizes: {phase: {layer: mean |activation|, (seeds, widths)}}.
    """

    parametrisation: str
    widths: tuple[int, ...]
    steps: int
    tolerance: float
    slopes: Mapping[Phase, Mapping[str, Slope]]
    sizes: Mapping[Phase, Mapping[str, np.ndarray]]

    def __getitem__(self, phase: Phase) -> Mapping[str, Slope]:
        return self.slopes[phase]

    def faults(self) -> list[str]:
        """What speaks against settings that serve all widths, a line each.

        Activations, or changes of them, that grow or are not finite, and those of layers inside that shrink:
        where the change does, the layer stops to learn. Outputs may shrink, at the start with width^-1/2
        under muP, from where they approach their size.
        """
        return [
            f"{layer}, {phase}: {found}"
            for phase, layers in self.slopes.items()
            for layer, found in layers.items()
            if found.verdict == "not finite"
            or found.verdict == "grows"
            or (found.verdict == "shrinks" and not found.output)
        ]

    @property
    def ok(self) -> bool:
        """Whether there are no faults."""
        return not self.faults()

    def __str__(self) -> str:
        widths = ", ".join(map(str, self.widths))
        wide = max(5, *(len(layer) for layer in self.slopes["start"]))
        head = f"{'layer':<{wide}}  {'at the start':<30}  {f'after {self.steps} steps':<30}  change"
        rows = (
            f"{layer:<{wide}}  " + "  ".join(f"{self.slopes[phase][layer]!s:<30}" for phase in PHASES)
            for layer in self.slopes["start"]
        )
        faults = [f"fault: {line}" for line in self.faults()] or ["no fault found"]
        first = f"{self.parametrisation}, slopes of mean |activation| on width, widths {widths}"
        return "\n".join([first, head, *(row.rstrip() for row in rows), *faults])


def coordinate_check(
    make_model: MakeModel,
    widths: Sequence[int],
    batches: Iterable[Batch],
    *,
    plan_base: int | None = None,
    optimizer: Rule = "adam",
    lr: float = 2e-3,
    steps: int = 4,
    seeds: int = 3,
    loss: Loss | None = None,
    tolerance: float = 0.12,
    plan_options: Mapping[str, Any] | None = None,
) -> CoordinateCheck:
    """Train models of several widths for a few steps, and see how their activations go with width.

    batches: pairs (inputs, targets), taken in turn; activations are those of the first one, as the model is
    in training. plan_base: the base width of muP; None is the standard parametrisation, the model as built
    and one learning rate. optimizer: "adam", or "sgd" without momentum. loss: of output and targets;
    cross-entropy over the last dimension where it is left out. plan_options: what else `plan` takes, e.g.
    {"fan_in": ...}. Modules that have no children, or parameters of their own, are looked at.

    Of each, mean |x| over the batch is fitted as width^slope, seed by seed. A layer is steady where the 95%
    bounds are within `tolerance`, grows or shrinks where they are beyond it, and unclear otherwise.

    Take an lr at which the narrowest model learns calmly: where steps overshoot, sizes bounce back and slopes
    tell little. The change shows most: under the standard parametrisation with Adam it grows about linearly.

    The check sees steps that are too large or too small. It does not see a wrong weight decay, nor does it
    promise that the best learning rate stays: `transfer_check` looks at that.

    Raises ValueError for fewer than two widths, seeds or one batch, and what `plan` raises.
    Source: Yang et al. 2021, section 4 and appendix D.1.
    """
    widths, pairs = check_inputs(widths, batches, optimizer, lr=lr, steps=steps)
    check_count(2, seeds=seeds)
    check_positive(tolerance=tolerance)
    loss = cross_entropy if loss is None else loss
    plans = {width: plan_for(make_model, width, plan_base, optimizer, plan_options) for width in widths}
    found: dict[Phase, dict[str, np.ndarray]] = {phase: {} for phase in PHASES}
    counts: dict[str, set[int]] = {}
    with torch.random.fork_rng():
        for seed, column in np.ndindex(seeds, len(widths)):
            width = widths[column]
            model, stepped = prepared(make_model, width, plans[width], optimizer, lr=lr, seed=seed)
            start = activations(model, pairs[0][0])
            trained(model, stepped, pairs, steps, loss)
            after = activations(model, pairs[0][0])
            for layer in start:
                counts.setdefault(layer, set()).add(start[layer].numel())
                moved = after[layer] - start[layer]
                for phase, part in zip(PHASES, (start[layer], after[layer], moved), strict=True):
                    into = found[phase].setdefault(layer, np.full((seeds, len(widths)), np.nan))
                    into[seed, column] = float(part.abs().mean())
    slopes: dict[Phase, dict[str, Slope]] = {
        phase: {
            layer: _slope(sizes, widths, tolerance, len(counts[layer]) == 1)
            for layer, sizes in found[phase].items()
        }
        for phase in PHASES
    }
    name = "standard" if plan_base is None else f"muP from base {plan_base}"
    return CoordinateCheck(f"{name}, {optimizer}, lr {lr:g}", widths, steps, tolerance, slopes, found)


class Prepared(NamedTuple):
    """A model and its optimizer."""

    model: nn.Module
    optimizer: Optimizer


def check_inputs(
    widths: Sequence[int], batches: Iterable[Batch], optimizer: Rule, *, lr: float, steps: int
) -> tuple[tuple[int, ...], list[Batch]]:
    """Widths in rising order and batches as a list, or ValueError."""
    check_positive(lr=lr)
    check_count(1, steps=steps, **{f"widths[{i}]": width for i, width in enumerate(widths)})
    check_choice("optimizer", optimizer, ("adam", "sgd"))
    rising, pairs = tuple(sorted(set(widths))), list(batches)
    if len(rising) < 2:
        raise ValueError(f"widths are {list(widths)}; it takes two or more that differ")
    if not pairs:
        raise ValueError("batches are empty; give one or more pairs of inputs and targets")
    return rising, pairs


def plan_for(
    make_model: MakeModel, width: int, base: int | None, optimizer: Rule, options: Mapping[str, Any] | None
) -> Plan | None:
    """The plan of a width; None where base is, for the standard parametrisation."""
    if base is None:
        return None
    return plan(make_model, base=base, width=width, optimizer=optimizer, **(options or {}))


def prepared(
    make_model: MakeModel,
    width: int,
    made: Plan | None,
    optimizer: Rule,
    *,
    lr: float,
    seed: int,
    weight_decay: float = 0.0,
) -> Prepared:
    """A model drawn by a seed, with its optimizer, after a plan or in standard parametrisation."""
    check_not_negative(weight_decay=weight_decay)
    torch.manual_seed(seed)
    model = make_model(width)
    if made is None:
        groups: list[Any] = [{"params": list(model.parameters()), "lr": lr, "weight_decay": weight_decay}]
    else:
        made.multiply_(made.apply_(model))
        groups = made.param_groups(model, lr, weight_decay=weight_decay)
    return Prepared(model, AdamW(groups, lr=lr) if optimizer == "adam" else SGD(groups, lr=lr))


def trained(
    model: nn.Module, optimizer: Optimizer, batches: Sequence[Batch], steps: int, loss: Loss
) -> list[float]:
    """Train on the batches in turn; the loss before each step."""
    losses = []
    for inputs, targets in islice(cycle(batches), steps):
        optimizer.zero_grad()
        value = loss(model(inputs), targets)
        value.backward()
        optimizer.step()
        losses.append(value.detach())
    return torch.stack(losses).tolist()


def cross_entropy(output: Any, targets: Tensor) -> Tensor:  # (..., classes), (...) -> ()
    """The mean cross-entropy of logits, or of the "logits" or first tensor of what a model gave."""
    logits = _tensor(output)
    if logits is None:
        raise ValueError(f"the model gave {type(output).__name__} without a tensor; say how by loss=...")
    return functional.cross_entropy(logits.flatten(0, -2), targets.flatten())


def activations(model: nn.Module, inputs: Any) -> dict[str, Tensor]:
    """What each layer gives for the inputs, without gradients; layers called again count once, the last."""
    found: dict[str, Tensor] = {}
    with torch.no_grad(), _recorded(model, found):
        model(inputs)
    return found


@contextmanager
def _recorded(model: nn.Module, found: dict[str, Tensor]) -> Iterator[None]:
    handles, seen = [], []
    for name, module in model.named_modules():
        leaf = next(module.children(), None) is None
        if name and not leaf and next(module.parameters(recurse=False), None) is None:
            continue

        def hook(module: nn.Module, args: Any, output: Any, name: str = name or "model") -> None:
            tensor = _tensor(output)
            if name == "model" and any(tensor is other for other in seen):
                return
            seen.append(tensor)
            if tensor is not None and tensor.is_floating_point():
                found[name] = tensor.detach().float().clone()

        handles.append(module.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _tensor(output: Any) -> Tensor | None:
    """The tensor that an output is, or holds first."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        output = [output["logits"]] if "logits" in output else list(output.values())
    if isinstance(output, (tuple, list)):
        return next((part for part in output if isinstance(part, Tensor)), None)
    return None


def _slope(sizes: np.ndarray, widths: tuple[int, ...], tolerance: float, output: bool) -> Slope:
    """The slope of one layer, sizes (seeds, widths)."""
    nan = float("nan")
    if not np.isfinite(sizes).all():
        return Slope(nan, nan, nan, "not finite", output)
    if not (sizes > 0).all():
        return Slope(nan, nan, nan, "zero", output)
    x = np.log(widths) - np.mean(np.log(widths))
    each = np.log(sizes) @ x / (x @ x)
    middle = float(each.mean())
    half = float(student.ppf(0.975, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each)))
    low, high = middle - half, middle + half
    if low >= -tolerance and high <= tolerance:
        verdict: Verdict = "steady"
    else:
        verdict = "grows" if low > tolerance else "shrinks" if high < -tolerance else "unclear"
    return Slope(middle, low, high, verdict, output)
