"""`conform`: a rule against all that its card promises."""

from types import ModuleType

from equipoise.core.card import Card
from equipoise.testing import (
    checks_drawn,
    checks_edges,
    checks_form,
    checks_geometry,
    checks_state,
    checks_transform,
    checks_weights,
)
from equipoise.testing.check import Check, MakeRule


def checks(card: Card) -> tuple[Check, ...]:
    """The checks that a card calls for, in a fixed order; `str(check)` is its name.

    Made for `@pytest.mark.parametrize("check", checks(CARD), ids=str)` over a test that calls
    `check(YourRule, CARD)`.

    >>> card = Card(name="Mean", shape="gramian", summary="", guarantees=("SIMPLEX",))
    >>> "simplex" in [str(check) for check in checks(card)]
    True
    """
    modules = (
        checks_form,
        checks_geometry,
        checks_weights,
        checks_edges,
        checks_state,
        checks_transform,
        checks_drawn,
    )
    return tuple(check for module in modules for check in _of(module) if check.called_for(card))


def conform(make_rule: MakeRule, card: Card) -> None:
    """Run every check that the card calls for; raise one AssertionError that lists all that failed.

    make_rule: makes a new rule with its defaults; usually the class itself.

    >>> from equipoise.aggregation.mean import CARD, Mean
    >>> conform(Mean, CARD)
    """
    failed: list[str] = []
    called = checks(card)
    for check in called:
        try:
            check(make_rule, card)
        except Exception as error:
            kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            failed.append(f"{check}: {kind}{error}")
    if failed:
        listed = "\n  ".join(failed)
        raise AssertionError(f"{card.name} fails {len(failed)} of {len(called)} checks:\n  {listed}")


def _of(module: ModuleType) -> list[Check]:
    return [value for value in vars(module).values() if isinstance(value, Check)]
