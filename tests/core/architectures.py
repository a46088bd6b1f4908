"""The architecture matrix: every case in every way. `python -m tests.core.architectures` prints it."""

from collections.abc import Mapping
from dataclasses import replace
from unittest.mock import patch

import torch
from tests.core.architectures_layers import LAYERS
from tests.core.architectures_models import MODELS
from tests.core.architectures_usages import USAGES
from tests.core.architectures_weights import WEIGHTS
from tests.core.cases import Case
from torch import Tensor

import equipoise
from equipoise import aggregation
from equipoise.core import plan
from equipoise.core.errors import VerificationFailed
from equipoise.core.ghost.use import FactoredUse
from equipoise.core.ghost.uses import uses_of
from equipoise.core.graph import Graph, walk
from equipoise.core.rule import Rule
from equipoise.core.step import Step

CASES: dict[str, Case] = {**LAYERS, **MODELS, **WEIGHTS, **USAGES}

WAYS = ("cheapest", "layer rules", "least memory", "rows")

CHOOSE = plan.choose


def prefer_layers(leaf: Tensor, name: str, graph: Graph, m: int) -> plan.Choice:
    """The form that the cost model takes for a large layer, however small this one is."""
    choice = CHOOSE(leaf, name, graph, m)
    uses = uses_of(leaf, graph) or []
    sides = {(u.transposed, u.a, u.o) if isinstance(u, FactoredUse) else None for u in uses}
    if choice.form != "block" or len(sides) != 1 or None in sides:
        return choice
    return replace(choice, form="ghost", uses=uses)


def step(case: Case, way: str) -> Step:
    """One step of a case, compared with plain autograd, in one of four ways.

    "cheapest" leaves all to the cost model; "layer rules" takes one wherever there is one; "least memory" has
    room for two directions of the largest parameter; "rows" has a rule that sees whole directions.
    """
    model, losses = case.made()
    options = {} if way == "rows" else dict(case.options)
    if way == "least memory":
        leaves = model.values() if isinstance(model, Mapping) else model.parameters()
        options.setdefault("max_memory", 2 * max(leaf.nbytes for leaf in leaves))
    rule: Rule = aggregation.GradDrop() if way == "rows" else aggregation.UPGrad()
    with patch.object(plan, "choose", CHOOSE if way == "cheapest" else prefer_layers):
        return equipoise.backward(losses, rule, parameters=model, verify=True, **options)


def gaps(case: Case) -> dict[str, float]:
    """How far what each layer rule makes of output gradients is from plain autograd, by parameter.

    Relative to the largest gradient of the model. Here also the rules are used whose parameters a step
    would rather take gradients of.
    """
    model, losses = case.made()
    named = dict(model if isinstance(model, Mapping) else model.named_parameters())
    graph = walk(list(losses.values()))
    loss = torch.stack([loss.double() for loss in losses.values()]).sum()
    found, sizes = {}, []
    for name, leaf in named.items():
        uses = uses_of(leaf, graph) if leaf in graph.reached else None
        if uses is None:
            continue
        ds = torch.autograd.grad(loss, [use.edge for use in uses], retain_graph=True, allow_unused=True)
        parts = [use.gradient(d) for use, d in zip(uses, ds, strict=True) if d is not None]
        (true,) = torch.autograd.grad(loss, leaf, retain_graph=True)
        true = true.to_dense().double()
        assert all(part.shape == leaf.shape for part in parts), name
        sizes.append(float(true.norm()))
        found[name] = float((sum(part.double() for part in parts) - true).norm())
    return {name: gap / max(sizes) if gap else 0.0 for name, gap in found.items()}


def row(name: str) -> list[str]:
    """One line of the matrix: case, share under a layer rule, forms, outcome."""
    case = CASES[name]
    try:
        found = step(case, "layer rules").plan
    except VerificationFailed as error:
        return [name, "", "", f"wrong: {', '.join(error.names)}"]
    except (RuntimeError, ValueError) as error:
        return [name, "", "", f"refused: {str(error).splitlines()[0][:60]}"]
    forms: dict[str, list[str]] = {}
    for layer in found.layers:
        forms.setdefault(layer.form, []).append(layer.name)
    seen = (f"{form}: {', '.join(names[:3])}{', ...' * (len(names) > 3)}" for form, names in forms.items())
    outcome = "exact, falls back" if "explicit" in forms else "exact"
    return [name, f"{found.covered:.0%}", "; ".join(seen), outcome]


def matrix() -> str:
    """All cases as a Markdown table."""
    lines = [["case", "under a layer rule", "forms where layer rules are preferred", "outcome"], ["---"] * 4]
    lines += [row(name) for name in CASES]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


if __name__ == "__main__":
    print(matrix())
