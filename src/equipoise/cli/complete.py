"""What the shell offers for an argument: names from the cards, read without importing what they name."""

from collections.abc import Callable, Iterable

from equipoise.core.card import ROOMS, RULE_ROOMS, RULE_SHAPES, Shape, cards

Offer = Callable[[str], list[tuple[str, str]]]


def named(*rooms: str, shapes: Iterable[Shape] = ()) -> dict[str, str]:
    """Name -> what it does, of all cards of some rooms, or of those of some shapes."""
    wanted = tuple(shapes)
    return {
        card.name: card.summary
        for room in rooms
        for card in cards(room).values()
        if not wanted or card.shape in wanted
    }


def one(found: Callable[[], dict[str, str]]) -> Offer:
    """Offers for a single name."""

    def offer(incomplete: str) -> list[tuple[str, str]]:
        return [(name, told) for name, told in found().items() if name.startswith(incomplete)]

    return offer


def several(found: Callable[[], dict[str, str]]) -> Offer:
    """Offers for the last of names given as a,b,c; those that stand already are not offered again."""

    def offer(incomplete: str) -> list[tuple[str, str]]:
        before, comma, begun = incomplete.rpartition(",")
        taken = set(before.split(","))
        return [(f"{before}{comma}{name}", told) for name, told in one(found)(begun) if name not in taken]

    return offer


anything = one(lambda: named(*ROOMS))
rooms = one(lambda: dict.fromkeys(ROOMS, ""))
problems = one(lambda: named("problems", shapes=("problem",)))
federations = one(lambda: named("problems", shapes=("federation",)))
rules = several(lambda: named(*RULE_ROOMS, shapes=(*RULE_SHAPES, "wrapper")))
solvers = several(lambda: named("pareto"))
systems = several(lambda: named("federated") | named(*RULE_ROOMS, shapes=RULE_SHAPES))
