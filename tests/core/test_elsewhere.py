"""Rules with their state on another device, and Gramian and losses on the CPU, where the engine has them."""

from importlib import import_module

import pytest
import torch
from tests.core.elsewhere import Elsewhere, move

from equipoise.core.card import cards
from equipoise.core.rule import Scalarizer
from equipoise.testing.ask import advance, ask

ROWS = torch.tensor([[2.0, 0.0, 1.0], [-1.0, 1.0, 0.0], [-1.0, -0.5, 2.0]], dtype=torch.float64)
KINDS = [
    pytest.param(room, card.name, id=card.name)
    for room in ("aggregation", "scalarization")
    for card in cards(room).values()
    if card.shape in ("gramian", "scalarizer", "row") and card.promises("STATEFUL")
]


def test_the_stand_in_meets_only_its_like():
    there = torch.ones(3).as_subclass(Elsewhere)
    with pytest.raises(RuntimeError, match="two devices"):
        there + torch.ones(3)
    with pytest.raises(RuntimeError, match="two devices"):
        torch.where(there > 0, torch.ones(3), 1.0)
    assert type(there.cpu() + torch.ones(3)) is torch.Tensor
    assert type(torch.ones(3).to(there) + there) is Elsewhere


@pytest.mark.parametrize(("room", "name"), KINDS)
def test_a_state_elsewhere_gives_the_same_answers(room, name):
    kind = getattr(import_module(f"equipoise.{room}"), name)
    plain, there = kind(), move(kind())
    for step in range(3):
        rows, chosen = ROWS.roll(step, 0), [0, 1, 2] if step < 2 else [2, 0]
        names = tuple("abc"[i] for i in chosen)
        if not isinstance(plain, Scalarizer):  # of which the engine moves the losses to where the rule is
            torch.testing.assert_close(
                ask(plain, rows[chosen], names=names).update,
                ask(there, rows[chosen], names=names).update.as_subclass(torch.Tensor),
            )
        advance(plain, rows[chosen], names=names, epoch_ended=True)
        advance(there, rows[chosen], names=names, epoch_ended=True)
    wanted, found = plain.state_dict(), there.state_dict()
    assert wanted.keys() == found.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(found[key].as_subclass(torch.Tensor), value)
    assert all(isinstance(buffer, Elsewhere) for buffer in there.buffers())
