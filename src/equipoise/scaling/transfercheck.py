"""The transfer check: whether the best learning rate of a narrow model is the best of a wide one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch

from equipoise.core.checks import check_count, check_not_negative, check_positive
from equipoise.scaling.coordinatecheck import (
    Batch,
    Loss,
    check_inputs,
    cross_entropy,
    plan_for,
    prepared,
    trained,
)
from equipoise.scaling.mup import MakeModel, Rule

Parametrisation = Literal["muP", "standard"]


@dataclass(frozen=True)
class Sweep:
    """Losses of one parametrisation (seeds, widths, rates), infinite where training broke off."""

    widths: tuple[int, ...]
    rates: tuple[float, ...]
    losses: np.ndarray

    @property
    def means(self) -> np.ndarray:  # -> (widths, rates)
        """Means over the seeds."""
        return self.losses.mean(0)

    @property
    def best(self) -> dict[int, float]:
        """The best learning rate of each width."""
        return {w: self.rates[i] for w, i in zip(self.widths, self._places, strict=True)}

    @property
    def octaves(self) -> float:
        """By how many doublings the best rate rises from the narrowest to the widest."""
        return float(np.log2(self.rates[self._places[-1]] / self.rates[self._places[0]]))

    @property
    def transferred(self) -> float:
        """The loss at the widest with the narrowest's best rate."""
        return float(self.means[-1, self._places[0]])

    @property
    def own(self) -> float:
        """The loss at the widest with its own best rate."""
        return float(self.means[-1].min())

    @property
    def penalty(self) -> float:
        """What the narrowest's best rate costs at the widest."""
        return self.transferred - self.own

    @property
    def noise(self) -> float:
        """The standard deviation over seeds of the widest's loss at its best rate; NaN for one seed."""
        column = self.losses[:, -1, self._places[-1]]
        return float(column.std(ddof=1)) if len(column) > 1 else float("nan")

    @property
    def at_edge(self) -> list[int]:
        """Widths whose best rate is the first or last of the sweep: a better one may be beyond."""
        return [w for w, i in zip(self.widths, self._places, strict=True) if i in (0, len(self.rates) - 1)]

    @property
    def _places(self) -> list[int]:
        return self.means.argmin(1).tolist()


@dataclass(frozen=True)
class TransferCheck:
    """Sweeps by parametrisation, `check["muP"].penalty`; `str` gives a table."""

    sweeps: Mapping[Parametrisation, Sweep]
    steps: int
    seeds: int

    def __getitem__(self, parametrisation: Parametrisation) -> Sweep:
        return self.sweeps[parametrisation]

    @property
    def gain(self) -> float:
        """How far muP's loss is below the standard one, at the widest with the narrowest's best rate."""
        return self["standard"].transferred - self["muP"].transferred

    def __str__(self) -> str:
        first = next(iter(self.sweeps.values()))
        seeds = f"{self.seeds} seed{'s' if self.seeds > 1 else ''}"
        lines = [f"loss after {self.steps} steps, {seeds}; * best of a width"]
        wide = max(len(str(width)) for width in first.widths)
        for name, sweep in self.sweeps.items():
            lines += ["", f"{name:<8}  {'lr':>{wide}} " + "".join(f"{rate:>10.3g} " for rate in sweep.rates)]
            for width, row in zip(sweep.widths, sweep.means, strict=True):
                cells = (f"{loss:>10.4f}{'*' if i == row.argmin() else ' '}" for i, loss in enumerate(row))
                lines.append(f"{'':<8}  {width:>{wide}} {''.join(cells)}".rstrip())
        narrow, widest = first.widths[0], first.widths[-1]
        lines.append("")
        for name, sweep in self.sweeps.items():
            noise = "" if np.isnan(sweep.noise) else f", seed sd {sweep.noise:.4f}"
            lines.append(
                f"{name}: width {widest} with the best lr of {narrow}, {sweep.best[narrow]:.3g}: "
                f"{sweep.transferred:.4f}; its own best, {sweep.best[widest]:.3g}: {sweep.own:.4f}{noise}"
            )
            if sweep.at_edge:
                where = ", ".join(map(str, sweep.at_edge))
                lines.append(f"  note: best at an end of the sweep at width {where}; widen it")
        if self.seeds == 1:
            lines.append("note: one seed, so noise is unknown")
        return "\n".join(lines)


def transfer_check(
    make_model: MakeModel,
    widths: Sequence[int],
    batches: Iterable[Batch],
    *,
    base: int | None = None,
    rates: Sequence[float] | None = None,
    optimizer: Rule = "adam",
    steps: int = 50,
    seeds: int = 1,
    weight_decay: float = 0.0,
    loss: Loss | None = None,
    held: Iterable[Batch] | None = None,
    plan_options: Mapping[str, Any] | None = None,
) -> TransferCheck:
    """Sweep learning rates at a few widths, under muP and the standard parametrisation.

    batches: pairs (inputs, targets), taken in turn. base: muP's base width; the narrowest where it is left
    out. rates: factors of 4 from 2^-13 to 2^-3 where left out. weight_decay: that of torch's AdamW or SGD,
    muP's adapted. held: pairs on which the loss is taken at the end, in evaluation; without, it is the mean
    of the last quarter of the losses in training. loss, plan_options: see `coordinate_check`.

    It trains 2 x widths x rates x seeds models, for `steps` each. Small models after few steps tell of
    transfer only roughly; the best rate of longer training may be another.

    Raises ValueError for fewer than two widths or rates, no batches, and what `plan` raises.
    Source: Yang et al. 2021, figure 1 and section 7.
    """
    chosen = tuple(2.0**k for k in range(-13, -2, 2)) if rates is None else tuple(sorted(set(rates)))
    if len(chosen) < 2:
        raise ValueError(f"rates are {list(chosen)}; it takes two or more that differ")
    check_positive(**{f"rates[{i}]": rate for i, rate in enumerate(chosen)})
    check_count(1, seeds=seeds)
    check_not_negative(weight_decay=weight_decay)
    rising, pairs = check_inputs(widths, batches, optimizer, lr=chosen[0], steps=steps)
    judged = None if held is None else list(held)
    if judged is not None and not judged:
        raise ValueError("held is empty; give one or more pairs of inputs and targets, or leave it out")
    loss = cross_entropy if loss is None else loss
    base = rising[0] if base is None else base
    sweeps: dict[Parametrisation, Sweep] = {}
    with torch.random.fork_rng():
        for name in get_args(Parametrisation):
            found = np.full((seeds, len(rising), len(chosen)), np.inf)
            for j, width in enumerate(rising):
                on = base if name == "muP" else None
                made = plan_for(make_model, width, on, optimizer, plan_options)
                for s, k in np.ndindex(seeds, len(chosen)):
                    model, stepped = prepared(
                        make_model, width, made, optimizer, lr=chosen[k], seed=s, weight_decay=weight_decay
                    )
                    losses = trained(model, stepped, pairs, steps, loss)
                    end = _held(model, judged, loss) if judged else np.mean(losses[-max(1, steps // 4) :])
                    found[s, j, k] = end if np.isfinite([*losses, end]).all() else np.inf
            sweeps[name] = Sweep(rising, chosen, found)
    return TransferCheck(sweeps, steps, seeds)


def _held(model: torch.nn.Module, pairs: list[Batch], loss: Loss) -> float:
    """The mean loss over pairs, in evaluation."""
    model.eval()
    with torch.no_grad():
        return float(np.mean([float(loss(model(inputs), targets)) for inputs, targets in pairs]))
