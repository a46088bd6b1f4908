"""How the m directions of each parameter are to be formed, by a stated cost model, within a budget."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from equipoise.core.ghost.embedding import EmbeddingUse
from equipoise.core.ghost.use import FactoredUse, Use
from equipoise.core.ghost.uses import uses_of
from equipoise.core.graph import Graph

if TYPE_CHECKING:
    from equipoise.core.call import Call
    from equipoise.core.held import Held

Form = Literal["ghost", "touched", "block", "explicit", "samples", "sketch"]

MOVE = 20
"""Multiplications that take as long as moving one number through memory: about 50 billion of the former
a second against 2.5 billion of the latter, on one core."""

WRITTEN = 3.0
"""How often a number of an explicit gradient is moved: written, multiplied, combined."""

FLOOR = 256 << 20
COPIES = 4


class Sketch(ABC):
    """What makes less of a layer's output gradient as soon as it arrives."""

    @abstractmethod
    def __call__(self, d: Tensor) -> Tensor:
        """The sketch of the parameter's gradient."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The form chosen for one parameter.

    "ghost": inner products from the layer's inputs and output gradients; "touched": the rows of a table
    that were looked up; "block": the gradients themselves, which a layer rule could have avoided but not
    more cheaply; "explicit": the gradients themselves, since no layer rule covers every use; "samples":
    the output gradients of all samples, from one pass; "sketch": random projections of the gradients, made
    by `sketch`. `held` are the bytes kept until the weights are
    known, `passing` those needed for a moment beside them.
    """

    leaf: Tensor
    name: str
    form: Form
    held: int
    passing: int
    operations: float
    uses: Sequence[Use] = ()
    sketch: Sketch | None = None

    @property
    def targets(self) -> list[Any]:
        """Where a backward pass is to bring gradients for this form: the outputs of layers, or the leaf."""
        return [self.leaf] if self.form in ("block", "explicit") else [use.edge for use in self.uses]


@dataclass(frozen=True, slots=True)
class Layer:
    """One line of a plan: parameter, form (see `Plan`), number of parameters, bytes held for it."""

    name: str
    form: str
    size: int
    held: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a step was to cost, and what it held.

    `route` is "one pass", "directions", "rows", "features", "samples" or "reused weights". `passes` counts
    backward passes through the shared part, `sweeps` how often the m objectives were gone through,
    each time for the layers of one share of the budget. `predicted` and `measured` are bytes held at
    most beside the graph, `traffic` the bytes that one process sends. `approximate` says what is not
    exact, "" where all is. Forms of a layer: "ghost", from inputs and output gradients; "touched",
    looked-up rows; "block", gradients where a layer rule knows the layer but they are the cheaper form;
    "explicit", gradients where none does.
    """

    route: str
    passes: int
    sweeps: int = 1
    layers: tuple[Layer, ...] = ()
    predicted: int = 0
    measured: int = 0
    traffic: int = 0
    approximate: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def covered(self) -> float:
        """Share of the shared parameters that a layer rule knows; 0 where there are none."""
        size = sum(layer.size for layer in self.layers)
        known = sum(layer.size for layer in self.layers if layer.form != "explicit")
        return known / size if size else 0.0

    def __str__(self) -> str:
        """The plan as a table for a person."""
        lines = [
            f"{self.route}: {self.passes} backward passes in {self.sweeps} sweeps, "
            f"{self.covered:.0%} of the parameters under a layer rule, "
            f"{_size(self.predicted)} planned, {_size(self.measured)} held"
        ]
        lines += [f"approximate: {self.approximate}"] if self.approximate else []
        lines += list(self.notes)
        width = max((len(layer.name) for layer in self.layers), default=0)
        lines += [
            f"  {layer.name:<{width}}  {layer.form:<8}  {layer.size:>11,}  {_size(layer.held):>10}"
            for layer in self.layers
        ]
        return "\n".join(lines)


def choose(leaf: Tensor, name: str, graph: Graph, m: int) -> Choice:
    """The cheaper of the forms that are exact for this parameter.

    Let a layer have rows n (samples times places) of `a` numbers in and `o` out, and let d = a o. In
    multiplications, with `MOVE` for each number moved:

    block: m n d, and `WRITTEN` m d numbers moved
    ghost: n^2 a + m n^2 o + m^2 n o + n d, and n a (patches of a convolution) + 4 m n o + d moved
    """
    size = leaf.numel()
    uses = uses_of(leaf, graph)
    factored = [use for use in uses or () if isinstance(use, FactoredUse)]
    if uses is None:
        return Choice(leaf, name, "explicit", m * leaf.nbytes, leaf.nbytes, WRITTEN * m * size * MOVE)
    looked_up = [use for use in uses if isinstance(use, EmbeddingUse)]
    if len(looked_up) == len(uses):
        rows = min(sum(len(use.index) for use in looked_up), leaf.shape[0])
        moved = m * rows * leaf.shape[1]
        held = moved * max(leaf.itemsize, 4)
        if moved < m * size:
            return Choice(leaf, name, "touched", held, leaf.nbytes, 4.0 * moved * MOVE, uses)
    n = sum(use.n for use in factored)
    block = m * (n * size + WRITTEN * size * MOVE)
    if len(factored) == len(uses) and len({(use.transposed, use.a, use.o) for use in factored}) == 1:
        a, o, groups = factored[0].a, factored[0].o, factored[0].groups
        out = groups * n * o
        unfolded = sum(use.unfolded for use in factored)
        multiplied = groups * n * n * (a + m * o) + m * m * out + n * size
        ghost = multiplied + MOVE * (unfolded + 4.0 * m * out + size)
        if ghost < block:
            width = max(leaf.itemsize, 4)
            passing = (2 * groups * n * a + groups * n * n + 2 * m * out) * width
            return Choice(leaf, name, "ghost", m * out * leaf.itemsize, passing, ghost, uses)
    return Choice(leaf, name, "block", m * leaf.nbytes, leaf.nbytes, block, uses)


def default_budget(leaves: Sequence[Tensor]) -> int:
    """Bytes held without being asked: 256 MiB, or four copies of the gradients where that is more."""
    return max(FLOOR, COPIES * sum(leaf.nbytes for leaf in leaves))


@dataclass(frozen=True, slots=True)
class Share:
    """Parameters whose directions are held at the same time.

    `rows` is how many directions of the one parameter in it are held at a time where not all fit; the others
    then pass by one at a time.
    """

    choices: tuple[Choice, ...]
    rows: int | None = None

    @property
    def predicted(self) -> int:
        """Bytes at most while this share is gone through."""
        if self.rows is not None:
            return (self.rows + 1) * self.choices[0].leaf.nbytes
        return sum(c.held for c in self.choices) + max((c.passing for c in self.choices), default=0)

    def passes(self, m: int) -> int:
        """Backward passes: each chunk of objectives is held once and meets all that come after."""
        if self.choices and all(choice.form == "samples" for choice in self.choices):
            return 1
        return m if self.rows is None else sum(m - start for start in range(0, m, self.rows))


def shares(choices: Sequence[Choice], budget: int, whole: bool = False) -> list[Share]:
    """The parameters in as few shares as the budget allows, in order.

    A parameter that goes beyond the budget alone gets a share of its own, which holds as many of its
    directions as fit. Raises ValueError naming a parameter of which not even two directions fit, or for
    `whole` not all.
    """
    found: list[list[Choice]] = []
    alone: list[Share] = []
    for choice in choices:
        need = choice.held + choice.passing
        if need > budget:
            rows = budget // max(choice.leaf.nbytes, 1) - 1
            if rows < 1 or whole:
                least = need if whole else 2 * choice.leaf.nbytes
                what = "all directions" if whole else "two directions"
                raise ValueError(
                    f"max_memory of {_size(budget)} is too little: {what} of the parameter {choice.name!r} "
                    f"alone take {_size(least)}"
                )
            alone.append(Share((choice,), rows))
            continue
        if not found or Share((*found[-1], choice)).predicted > budget:
            found.append([])
        found[-1].append(choice)
    return alone + [Share(tuple(share)) for share in found]


@dataclass(frozen=True, slots=True)
class Schedule:
    """The forms chosen for the shared parameters of m objectives, and the shares they are gone through in."""

    choices: tuple[Choice, ...]
    shares: tuple[Share, ...]
    m: int

    @property
    def again(self) -> bool:
        """Whether some directions are let go before the weights are known, and one more pass is due."""
        return len(self.shares) > 1 or any(share.rows is not None for share in self.shares)

    def record(self, route: str, measured: int, call: "Call", **others: Any) -> Plan:
        """The plan as it is told to the caller."""
        return Plan(
            route,
            passes=sum(share.passes(self.m) for share in self.shares) + (self.again and route != "rows"),
            sweeps=len(self.shares),
            layers=tuple(Layer(c.name, c.form, c.leaf.numel(), c.held) for c in self.choices),
            predicted=max((share.predicted for share in self.shares), default=0),
            measured=measured,
            traffic=0 if call.world is None else call.world.traffic,
            **others,
        )


def schedule(
    leaves: Sequence[Tensor],
    names: Sequence[str],
    graph: Graph,
    m: int,
    budget: int | None,
    whole: bool = False,
) -> Schedule:
    """Choose a form for each parameter and share them out.

    `budget` in bytes; None is `default_budget`, which for `whole` (all rows of a parameter are needed at a
    time) grows to what the largest parameter takes.
    """
    choices = [choose(leaf, name, graph, m) for leaf, name in zip(leaves, names, strict=True)]
    return shared_out(choices, leaves, m, budget, whole)


def shared_out(
    choices: Sequence[Choice], leaves: Sequence[Tensor], m: int, budget: int | None, whole: bool = False
) -> Schedule:
    """The schedule of some choices within a budget."""
    if whole:
        choices = [replace(c, passing=max(c.passing, m * c.leaf.nbytes)) for c in choices]
    if budget is None:
        budget = default_budget(leaves)
        least = max((c.held + c.passing if whole else 2 * c.leaf.nbytes for c in choices), default=0)
        budget = max(budget, least)
    return Schedule(tuple(choices), tuple(shares(choices, budget, whole)) or (Share(()),), m)


def layers_of(held: Mapping[Tensor, "Held"], names: Mapping[Tensor, str]) -> tuple[Layer, ...]:
    """What is held, as lines of a plan."""
    return tuple(Layer(names[leaf], one.form, leaf.numel(), one.bytes()) for leaf, one in held.items())


def parse_memory(text: str | int) -> int:
    """Bytes from a number or a text such as "2GiB" or "500 MB".

    Raises ValueError for anything else, and for nothing or less.

    >>> parse_memory("1.5 KiB")
    1536
    """
    units = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
    try:
        number = str(text).strip().lower()
        unit = number.lstrip("0123456789. ")
        found = int(float(number.removesuffix(unit)) * units[unit])
    except (KeyError, ValueError):
        raise ValueError(f"{text!r} is no amount of memory; write bytes or a text such as '2GiB'") from None
    if found <= 0:
        raise ValueError(f"{text!r} is no memory at all")
    return found


def _size(amount: int) -> str:
    value = float(amount)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def names_of(leaves: Sequence[Tensor], named: Mapping[str, Tensor] | None) -> list[str]:
    """The names that the caller gave, else "0 (4, 3)", "1 (4,)", ..."""
    given = {id(leaf): name for name, leaf in (named or {}).items()}
    return [given.get(id(leaf), f"{i} {tuple(leaf.shape)}") for i, leaf in enumerate(leaves)]
