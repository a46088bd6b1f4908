"""TorchJD's property of state, and the one rule that takes rows, of our rules at every scale.

With its state fixed an aggregator gives the same answer to the same matrix; one without state always does;
state begins anew in a new object, and here also when the first `state_dict` is loaded.
"""

from copy import deepcopy

import pytest
import torch
from tests.external.draws import jacobians
from torch import Tensor

from equipoise import aggregation
from equipoise.bridges import to_torchjd
from equipoise.core.card import cards
from equipoise.core.rule import Rule
from equipoise.testing.ask import advance, ask, names_for

SCALES = (1e-12, 1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e9, 1e12)
CARDS = {name: card for name, card in cards("aggregation").items() if card.shape in ("gramian", "row")}
ROWS = [rows for rows in jacobians(40, scales=(1.0,)) if len(rows) > 2]


def moves(name: str) -> bool:
    return CARDS[name].promises("STATEFUL") or CARDS[name].promises("RANDOM")


def answers(rule: Rule, rows: Tensor) -> list[Tensor]:
    """To directions, and to the same in reverse order, each with its name."""
    names = names_for(len(rows))
    return [ask(rule, rows, names=names).update, ask(rule, rows.flip(0), names=names[::-1]).update]


def pair(rule: Rule, rows: Tensor) -> list[Tensor]:
    """The answers before a step on other directions and after it."""
    first = answers(rule, rows)
    advance(rule, rows.flip(0))
    return [*first, *answers(rule, rows)]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", CARDS)
def test_state_alone_decides(name, scale):
    """The same bits from the same state, from a new rule and from the first state loaded again."""
    changed = False
    for rows in ROWS:
        rule = getattr(aggregation, name)()
        beginning = deepcopy(rule.state_dict())
        first = pair(rule, scale * rows)
        assert same(first, pair(getattr(aggregation, name)(), scale * rows))
        fresh = getattr(aggregation, name)()
        advance(fresh, scale * rows)
        fresh.load_state_dict(beginning)
        assert same(first, pair(fresh, scale * rows))
        changed |= not same(first[:2], first[2:])
    assert changed == moves(name)


@pytest.mark.parametrize("name", CARDS)
def test_an_aggregator_of_ours_carries_no_graph(name):
    """Non-differentiable: a derivative through fixed weights would be a wrong one.

    A rule that keeps rows by the names of parameters is refused, for TorchJD tells it none.
    """
    rule, rows = getattr(aggregation, name)(), ROWS[-1].clone().requires_grad_()
    if rule.stages():
        with pytest.raises(TypeError, match=name):
            to_torchjd(rule)
    else:
        assert not to_torchjd(rule)(rows).requires_grad


@pytest.mark.parametrize("scale", SCALES)
def test_graddrop_keeps_the_promises_of_its_card(scale):
    """Structure, permutation and degree of the rule that takes rows."""
    for number, rows in enumerate(ROWS):
        update = aggregation.GradDrop()(scale * rows)
        assert update.shape == rows.shape[1:]
        assert bool(update.isfinite().all())
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(number))
        permuted = aggregation.GradDrop()(scale * rows[order])
        plain = aggregation.GradDrop()(rows)
        for other in (permuted / scale, update / scale):
            torch.testing.assert_close(other, plain, rtol=1e-9, atol=1e-9 * float(rows.abs().max()))
    assert not aggregation.GradDrop()(torch.zeros(3, 5)).any()
