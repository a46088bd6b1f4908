"""Front: what was found of the trade-offs between m losses, and the choice of one solution."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from equipoise.core import indicators
from equipoise.core.errors import unknown
from equipoise.core.objectives import Preference, simplex_preference
from equipoise.core.selection import compromise, knee, pseudo_weights
from equipoise.core.tensorfile import TensorFile, write_tensors

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

FORMAT = "equipoise.front"
VERSION = "1"
EACH = ("gaps", "validation")
Solution = Mapping[str, Tensor]
By = Literal["tchebycheff", "asf", "weighted", "pseudo", "knee"]


@dataclass(frozen=True, slots=True, eq=False)
class Front:
    """n solutions of one problem with m losses, of which lower is better.

    names: m. points: losses (n, m), float64 on the CPU. weights: (n, m), the preference that each solution
    was sought with, None where there was none. solutions: n mappings of tensors by name (a model's
    `state_dict`), or none. record: how it was found (solver, cost, seed), in plain JSON values; its lists
    "gaps" and "validation" have an entry for each solution, and follow them into a subset.

    Not all points of a front need be non-dominated: `nondominated()` keeps those that are.

    Raises ValueError where sizes do not fit and for points that are not finite.

    >>> front = Front(("left", "right"), torch.tensor([[0.0, 1.0], [0.25, 0.25], [1.0, 0.0]]))
    >>> front.pick([0.5, 0.5]).losses
    {'left': 0.25, 'right': 0.25}
    """

    names: tuple[str, ...]
    points: Tensor
    weights: Tensor | None = None
    solutions: Sequence[Solution] = ()
    record: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        points = torch.as_tensor(self.points).detach().to("cpu", torch.float64)
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "points", points)
        if points.dim() != 2 or points.shape[1] != len(self.names):
            raise ValueError(f"points have shape {tuple(points.shape)}; for {_said(self.names)} give (n, m)")
        if len(set(self.names)) < len(self.names) or not self.names:
            raise ValueError(f"names are {self.names}; give each objective one of its own")
        if bad := [n for n, ok in zip(self.names, points.isfinite().all(0).tolist(), strict=True) if not ok]:
            raise ValueError(f"the losses of {_said(bad)} are not finite in every point")
        if self.weights is not None:
            weights = torch.as_tensor(self.weights).detach().to("cpu", torch.float64)
            object.__setattr__(self, "weights", weights)
            if weights.shape != points.shape:
                raise ValueError(f"weights have shape {tuple(weights.shape)}, points {tuple(points.shape)}")
        if self.solutions and len(self.solutions) != len(points):
            raise ValueError(f"{len(self.solutions)} solutions for {len(points)} points")

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        solver = f", by {self.record['solver']}" if "solver" in self.record else ""
        return f"Front({len(self)} points of {_said(self.names)}{solver})"

    def subset(self, places: Sequence[int]) -> "Front":
        """The solutions at some places, in that order."""
        index = torch.tensor(list(places), dtype=torch.long)
        weights = None if self.weights is None else self.weights[index]
        solutions = [self.solutions[place] for place in places] if self.solutions else ()
        each = {key: [values[place] for place in places] for key, values in self._each().items()}
        return Front(self.names, self.points[index], weights, solutions, {**self.record, **each})

    def nondominated(self) -> "Front":
        """The solutions that no other one is at least as good as in every loss; of equal ones, the first."""
        return self.subset(indicators.nondominated(self.points.numpy()).nonzero()[0].tolist())

    def join(self, other: "Front") -> "Front":
        """Both fronts' solutions, with what their records agree on.

        Raises ValueError where their losses differ.
        """
        if other.names != self.names:
            raise ValueError(f"a front of {_said(other.names)} does not join one of {_said(self.names)}")
        mine, theirs = self.weights, other.weights
        both = None if mine is None or theirs is None else torch.cat([mine, theirs])
        whole = bool(self.solutions) and bool(other.solutions)
        solutions = (*self.solutions, *other.solutions) if whole else ()
        here, there = self._each(), other._each()
        record = {key: value for key, value in self.record.items() if other.record.get(key) == value}
        record = {key: value for key, value in record.items() if key not in EACH}
        record |= {key: [*here[key], *there[key]] for key in EACH if key in here and key in there}
        return Front(self.names, torch.cat([self.points, other.points]), both, solutions, record)

    def pick(
        self,
        preference: Preference = None,
        *,
        by: By = "tchebycheff",
    ) -> "Picked":
        """One solution that no other dominates: the one that suits a preference best, each loss scaled to its
        range over such solutions.

        preference: m numbers, or by name; what weighs more is to be lower. None is the uniform one.
        by: "tchebycheff" the least worst weighted loss above the ideal point; "asf" the same with the losses
            divided by the preference, so that (.9, .1) asks for losses nine to one; "weighted" the least
            weighted sum; "pseudo" the solution whose pseudo-weights are nearest to the preference; "knee"
            the one that bulges most towards the ideal point, where no preference counts.

        Raises ValueError for an empty front, an unknown way, and a preference that does not fit.
        """
        if not len(self):
            raise ValueError("the front is empty; there is nothing to pick")
        if by not in get_args(By):
            raise ValueError(unknown("way to pick", by, get_args(By)))
        kept = indicators.nondominated(self.points.numpy()).nonzero()[0]
        points = self.points.numpy()[kept]
        wish = simplex_preference(preference, self.names)
        weights = np.full(len(self.names), 1 / len(self.names)) if wish is None else wish.numpy()
        place = knee(points) if by == "knee" else compromise(points, weights, by)
        return self._picked(int(kept[place]))

    def pseudo_weights(self) -> Tensor:  # -> (n, m)
        """How much each solution favours each loss: how far it is below the worst value, scaled to sum 1 (Deb
        2001, section 8.6)."""
        return torch.from_numpy(pseudo_weights(self.points.numpy()))

    def hypervolume(self, reference: Sequence[float] | Tensor | None = None) -> float:
        """The volume that the points dominate below `reference` (m,), by default a tenth of each loss's range
        beyond its worst value."""
        beyond = indicators.beyond(self.points.numpy()) if reference is None else np.asarray(reference, float)
        return indicators.hypervolume(self.points.numpy(), beyond)

    def igd_plus(self, known: "Front | Tensor") -> float:
        """The mean distance, in what is worse only, from the points of a known front to this one (IGD+)."""
        return indicators.igd_plus(self.points.numpy(), _points(known))

    def epsilon(self, known: "Front | Tensor") -> float:
        """The least number by which all losses must fall to match every point of a known front."""
        return indicators.epsilon(self.points.numpy(), _points(known))

    def coverage(self, known: "Front | Tensor", within: float = 0.02) -> float:
        """The share of a known front's points that have a point here within a distance, in its ranges."""
        return indicators.coverage(self.points.numpy(), _points(known), within)

    def plot(self, path: str | Path | None = None) -> "Figure":
        """A picture: two losses as a plane, three as a space, more as parallel axes; HTML in `path`."""
        from equipoise.core.frontplot import figure, write_figure

        drawn = figure(self)
        if path is not None:
            write_figure(drawn, Path(path))
        return drawn

    def save(self, path: str | Path) -> None:
        """Write points, weights and solutions to one safetensors file, atomically."""
        tensors = {"points": self.points} | ({} if self.weights is None else {"weights": self.weights})
        for i, solution in enumerate(self.solutions):
            tensors |= {f"solutions.{i}.{name}": tensor.detach() for name, tensor in solution.items()}
        metadata = {
            "format": FORMAT,
            "version": VERSION,
            "names": json.dumps(self.names),
            "record": json.dumps(dict(self.record), allow_nan=False),
        }
        write_tensors(Path(path), tensors.items(), metadata)

    @classmethod
    def load(cls, path: str | Path, *, solutions: bool = True) -> "Front":
        """What `save` wrote, without the solutions where these are not wanted.

        Raises ValueError where the file holds no front.
        """
        file = TensorFile(Path(path))
        metadata = file.metadata
        if metadata.get("format") != FORMAT or metadata.get("version") != VERSION:
            said = f"format {metadata.get('format')!r}, version {metadata.get('version')!r}"
            raise ValueError(f"{path} holds no front that can be read here: its header says {said}")
        read: dict[int, dict[str, Tensor]] = {}
        for key in file if solutions else ():
            if key.startswith("solutions."):
                _, place, name = key.split(".", 2)
                read.setdefault(int(place), {})[name] = file[key].clone()
        weights = file["weights"].clone() if "weights" in file else None
        return cls(
            tuple(json.loads(metadata["names"])),
            file["points"].clone(),
            weights,
            [read[i] for i in sorted(read)],
            json.loads(metadata["record"]),
        )

    def _each(self) -> dict[str, list[Any]]:
        """The lists of the record that have an entry for each solution."""
        return {key: list(self.record[key]) for key in EACH if key in self.record}

    def _picked(self, place: int) -> "Picked":
        losses = dict(zip(self.names, self.points[place].tolist(), strict=True))
        solution = self.solutions[place] if self.solutions else None
        return Picked(place, losses, None if self.weights is None else self.weights[place], solution)


@dataclass(frozen=True, slots=True, eq=False)
class Picked:
    """One solution of a front: its place there, its losses by name, its weights (m,) and tensors, if any."""

    place: int
    losses: dict[str, float]
    weights: Tensor | None = None
    solution: Solution | None = None


def _points(known: "Front | Tensor") -> np.ndarray:
    return (known.points if isinstance(known, Front) else known.detach().double()).cpu().numpy()


def _said(names: Sequence[str]) -> str:
    return ", ".join(names)
