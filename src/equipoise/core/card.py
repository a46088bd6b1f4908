"""Card: what a method is, promises and cites. Read from its file without importing it."""

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

Shape = Literal[
    "gramian",
    "row",
    "scalarizer",
    "transform",
    "wrapper",
    "front",
    "system",
    "problem",
    "merge",
    "score",
    "federated",
    "federation",
    "law",
    "schedule",
    "parametrisation",
]
"""The shapes of rule, then what is no rule: a wrapper of a model, a solver that gives a front, a system
around the loop (an optimizer, a sampler, a schedule, a regulariser), a problem, a way to merge models, a
score of models, a federated system, a federation to train; a law of losses, a schedule of objectives, a
parametrisation of a model."""

RULE_SHAPES: tuple[Shape, ...] = ("gramian", "row", "scalarizer")
"""Those that `backward` takes as they are."""

RULE_ROOMS = ("aggregation", "scalarization")
ROOMS = (*RULE_ROOMS, "pareto", "merging", "transferability", "federated", "scaling", "problems")

GUARANTEES = {
    "PERMUTATION": "reordering the objectives reorders the weights and nothing else",
    "NON_CONFLICTING": "no objective has a negative inner product with the update",
    "NON_CONFLICTING_FULL_RANK": "as NON_CONFLICTING, where the directions are linearly independent",
    "HOMOGENEOUS": "directions times c > 0 give the update times c to the stated degree",
    "LINEAR_IN_ROW_SCALE": "the update is linear in positive factors on single directions",
    "INVARIANT_TO_ROW_SCALE": "positive factors on single directions do not turn the update",
    "STRONGLY_STATIONARY": "the update is zero only where a positive combination of all directions is",
    "SIMPLEX": "the weights are non-negative and sum to one",
    "NON_NEGATIVE": "no weight is negative",
    "CONVEX": "convex in the losses",
    "PREFERENCE": "takes a preference; the uniform one is the default",
    "LOSS_SCALE_INVARIANT": "a positive factor on one loss does not turn the update",
    "STATEFUL": "advances in `update`",
    "LEARNABLE": "has parameters that the optimizer trains",
    "RANDOM": "draws from its own seeded generator",
    "FEATURE_SCALE_INVARIANT": "a positive factor on all features does not change the score",
}
OF_SCORES = ("FEATURE_SCALE_INVARIANT",)
"""Guarantees that scores alone make; the tests of their room hold them."""

_GUARANTEE = re.compile(r"([A-Z_]+)(?:\((-?[\d.]+)\))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The facts about one method; every field is a literal.

    `guarantees` are names from `GUARANTEES`, `HOMOGENEOUS(k)` with its degree k. `single` says what
    one objective alone gets. `needs` is what a score asks for (features, labels ...). `status` is
    "main" where the values were checked against the paper or a peer, "experimental" where they are our
    reading. `evidence` names a script in `evidence/`.
    """

    name: str
    shape: Shape
    summary: str
    formula: str = ""
    title: str = ""
    authors: tuple[str, ...] = ()
    venue: str = ""
    year: int = 0
    arxiv: str = ""
    doi: str = ""
    guarantees: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    single: str = ""
    cost: str = ""
    use: str = ""
    avoid: str = ""
    status: Literal["main", "experimental"] = "experimental"
    evidence: str = ""

    def promises(self, guarantee: str) -> bool:
        """Whether the card makes the guarantee of this name, whatever its degree."""
        return any(parse_guarantee(g)[0] == guarantee for g in self.guarantees)

    def degree(self) -> float | None:
        """k of `HOMOGENEOUS(k)`, else None."""
        return next((d for n, d in map(parse_guarantee, self.guarantees) if n == "HOMOGENEOUS"), None)

    def citation(self) -> str:
        """Authors, year, title, venue and identifier in one line."""
        identifier = f"arXiv:{self.arxiv}" if self.arxiv else f"doi:{self.doi}" if self.doi else ""
        parts = (", ".join(self.authors), f"({self.year})" if self.year else "", self.title, self.venue)
        return ". ".join(part for part in (*parts, identifier) if part)


def parse_guarantee(text: str) -> tuple[str, float | None]:
    """`"HOMOGENEOUS(1)"` -> `("HOMOGENEOUS", 1.0)`; unknown names raise ValueError."""
    found = _GUARANTEE.fullmatch(text)
    if found is None or found[1] not in GUARANTEES:
        raise ValueError(f"no guarantee {text!r}; known: {', '.join(GUARANTEES)}")
    return found[1], float(found[2]) if found[2] else None


def read_card(path: Path) -> Card | None:
    """The `CARD` of a Python file, from its syntax tree; None where the file has none."""
    text = path.read_text(encoding="utf-8")
    for node in ast.parse(text).body if "CARD" in text else ():
        match node:
            case ast.Assign(targets=[ast.Name(id="CARD")], value=ast.Call(keywords=keywords)):
                try:
                    fields = {k.arg: ast.literal_eval(k.value) for k in keywords if k.arg}
                except ValueError as error:
                    raise ValueError(f"{path.name}: every field of CARD must be a literal") from error
                return Card(**fields)
    return None


@cache
def card(room: str, name: str) -> Card | None:
    """The card of this name, in whatever case, from its own file alone; None where there is none."""
    path = _folder(room) / f"{name.lower()}.py"
    found = read_card(path) if name.isidentifier() and path.is_file() else None
    return found if found is not None and found.name.lower() == name.lower() else None


@cache
def cards(room: str) -> dict[str, Card]:
    """The cards of one of `ROOMS`, by name."""
    found = (read_card(path) for path in sorted(_folder(room).glob("*.py")))
    return {card.name: card for card in found if card is not None}


def _folder(room: str) -> Path:
    return Path(__file__).parent.parent / room
