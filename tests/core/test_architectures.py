"""Every layer and way of use against plain autograd, in every form that the engine may take."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.conftest import missing
from tests.core.architectures import CASES, WAYS, gaps, step

from equipoise.core.verify import TOLERANCE

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch", "ignore::DeprecationWarning:torch")

NODE_HOOK = "autograd captures the gradient at a node that does not run before the hooks of that node"

WRONG = {("hook before a node", "rule alone"): NODE_HOOK}
"""(case, way) -> why the engine does not hold there."""


def marked(name: str, way: str, *values: str) -> Any:
    """A parameter set, expected to fail where the reason is known."""
    wrong = WRONG.get((name, way))
    marks = [pytest.mark.xfail(strict=True, reason=wrong)] if wrong else []
    return pytest.param(name, *values, marks=marks, id=f"{name}-{way}")


def every() -> Iterator[Any]:
    """Each case in each way that it is for."""
    for name, case in CASES.items():
        for way in ("layer rules",) if case.slow else WAYS:
            yield marked(name, way, way)


@pytest.mark.parametrize(("name", "way"), list(every()))
def test_what_the_engine_finds_is_what_autograd_gives(name, way):
    case = CASES[name]
    if name == "compile, inductor" and not (shutil.which("g++") or shutil.which("clang++")):
        missing("no C++ compiler, which inductor needs")
    if case.refuses:
        with pytest.raises((RuntimeError, ValueError), match=case.refuses):
            step(case, way)
        return
    plan = step(case, way).plan
    assert plan.covered >= case.covered
    if way == "layer rules":
        forms = {layer.name: layer.form for layer in plan.layers}
        assert {name: forms[name] for name in case.forms} == case.forms


@pytest.mark.parametrize(
    "name",
    [marked(name, "rule alone") for name, case in CASES.items() if not (case.refuses or case.slow)],
)
def test_each_layer_rule_gives_the_gradient_of_its_parameter(name):
    coarse = any(word in name for word in ("bfloat16", "float16", "autocast"))
    allowed = TOLERANCE[torch.bfloat16 if coarse else torch.float32]
    assert {parameter: gap for parameter, gap in gaps(CASES[name]).items() if gap > allowed} == {}


def test_a_small_budget_takes_several_sweeps():
    plan = step(CASES["max_memory, several sweeps"], "layer rules").plan
    assert plan.sweeps > 1


def test_a_budget_of_two_directions_takes_them_by_pairs():
    """Three directions two at a time: 3 + 2 + 1 passes for the parameter that is too large."""
    plan = step(CASES["max_memory, by pairs"], "layer rules").plan
    assert plan.passes > 3 * plan.sweeps + 1
