"""The README's example runs as it stands, and with every rule in place of the one it names."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise.core.card import RULE_ROOMS, RULE_SHAPES, cards

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = re.search(r"```python\n(.*?)```", README, re.DOTALL)
RULES = [
    (room, name) for room in RULE_ROOMS for name, card in cards(room).items() if card.shape in RULE_SHAPES
]


def run(room: str = "aggregation", name: str = "UPGrad") -> dict[str, Any]:
    """Run the example with another rule's name in it; what it leaves behind."""
    assert EXAMPLE is not None
    found: dict[str, Any] = {}
    torch.manual_seed(0)
    exec(EXAMPLE[1].replace("aggregation.UPGrad()", f"{room}.{name}()"), found)
    return found


def flat(state: Any) -> Any:
    """A state as plain lists, at any depth."""
    if isinstance(state, torch.Tensor):
        return state.tolist()
    return [flat(value) for value in state.values()] if isinstance(state, dict) else state


def test_the_example_has_twelve_lines():
    assert EXAMPLE is not None
    assert len([line for line in EXAMPLE[1].splitlines() if line.strip()]) == 12


def test_the_example_lowers_every_loss():
    assert EXAMPLE is not None
    before: dict[str, Any] = {}
    torch.manual_seed(0)
    exec(EXAMPLE[1].replace("range(100)", "range(0)"), before)
    after = run()
    first, last = before["losses"](), after["losses"]()
    assert list(first) == ["weight", "waist", "pulse"]
    assert all(last[name] < first[name] for name in first)


@pytest.mark.parametrize(("room", "name"), RULES, ids=[name for _, name in RULES])
def test_any_rule_fits_by_its_name_and_moves_where_it_has_state(room: str, name: str):
    found = run(room, name)
    rule, card = found["rule"], cards(room)[name]
    assert all(torch.isfinite(parameter).all() for parameter in found["model"].parameters())
    before = deepcopy(rule.state_dict())
    found["equipoise"].backward(found["losses"](), rule, parameters=found["model"])
    assert flat(rule.state_dict()) == flat(before), "backward alone moved the state"
    moved = flat(before) != flat(type(rule)().state_dict())
    changes = ("STATEFUL", "RANDOM", "LEARNABLE")
    assert moved == any(card.promises(guarantee) for guarantee in changes)


@pytest.mark.parametrize(
    ("room", "name"), [(room, name) for room, name in RULES if cards(room)[name].promises("LEARNABLE")]
)
def test_what_a_rule_learns_is_trained_by_the_optimizer(room: str, name: str):
    found = run(room, name)
    fresh = type(found["rule"])()
    learned = flat(dict(found["rule"].named_parameters()))
    assert learned
    assert learned != flat(dict(fresh.named_parameters()))
