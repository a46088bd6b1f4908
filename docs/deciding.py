"""The decision page: which rule, by what was seen here; its numbers are read from the results."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from docs import methods
from docs.pages import ROOT, Link, method_address, plain_text, table

Row = list[Any]


CASES: list[tuple[str, tuple[str, ...], str]] = [
    (
        "losses of very different size or unit",
        ("LogSum", "IMTLG", "DBMTL"),
        "a factor on one loss does not turn them; so do tuned fixed weights",
    ),
    (
        "gradients point apart beyond the noise (`equipoise.diagnose`)",
        ("UPGrad", "ConFIG", "CAGrad"),
        "no objective is hurt, or the worst one least",
    ),
    (
        "one objective starves, whatever the gradients",
        ("SmoothTchebycheff", "FAMO"),
        "weight goes to who is behind, at one backward pass",
    ),
    ("one objective matters, others help it", ("AGEM", "PCD", "GEM"), "helpers may not hurt the first"),
    (
        "a wish such as 70 : 30, or the whole trade-off",
        ("PreferenceSweep", "HypervolumeGradient"),
        "[a front](#a-front): `equipoise run --front`",
    ),
    (
        "some sources are wrong or hostile",
        ("Krum", "GeometricMedian", "CoordinateMedian"),
        "a minority cannot drag the update",
    ),
    ("clients that are served badly", ("AdaOMDTCH", "FedFV", "FedMGDAPlus"), "[below](#federated-clients)"),
    ("checkpoints to join", ("Average", "RegMean"), "RegMean wants a little data; [below](#checkpoints)"),
    ("many checkpoints to start from", ("LogME", "PACTran"), "[below](#which-checkpoint-to-start-from)"),
    ("nothing conflicts", ("Mean",), "there is nothing to settle"),
]
"""What a user sees, what to try first, and why."""

HEAD = """# Which rule should I use?

Start with the mean and a sweep of fixed weights: they are hard to beat, and the sections below say by how
much. Then let your own problem decide, in minutes:

```console
$ equipoise advise problem.py
```
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, _cases(), _routes(), _conflict(), _fronts(), _clients(), _merging(), _models()])


def _cases() -> str:
    lines = ["| what you see | try first | why |", "| --- | --- | --- |"]
    for seen, names, why in CASES:
        shown = ", ".join(row[0] for row in _linked([[name] for name in names]))
        lines.append(f"| {seen} | {shown} | {why} |")
    return "\n".join([*lines, ""])


def _routes() -> str:
    rows = [
        ["scalariser: FAMO, SmoothTchebycheff, fixed weights", "1", "nothing"],
        [
            "Gramian rule: UPGrad, MGDA, CAGrad",
            "m, to the outputs of layers where cheaper",
            "one form a layer",
        ],
        ["row rule: GradDrop, CoordinateMedian", "m", "the rows of one block at a time"],
        ["any Gramian rule with weights_every=10", "1, and m in one step of ten", "nothing in nine of ten"],
    ]
    columns = ["route", "backward passes", "memory beside a plain step"]
    shown = table({"title": "What a step costs with m objectives", "columns": columns, "rows": rows})
    told = "[Benchmarks](benchmarks.md) has seconds and bytes beside other libraries."
    return f"## What it costs\n\n{shown}\n\n{told}\n"


def _conflict() -> str:
    lines = [
        "## Tasks of one model\n",
        "Every rule at its best of the same learning rates, chosen on validation data, on three problems; the"
        " five best of each beside the mean and the best fixed weights, on test data.\n",
    ]
    result = _result("conflict_methods")
    for found in result["tables"]:
        best = found["rows"][:5]
        beside = [
            row
            for row in found["rows"]
            if str(row[0]) in ("Mean", "best fixed weights", "fixed weights") and row not in best
        ]
        lines += [table({**found, "rows": _linked([*best, *beside]), "note": ""}), ""]
    return "\n".join([*lines, _claims(result)])


def _fronts() -> str:
    result = _result("fronts")
    found = result["tables"][0]
    lines = [
        "## A front\n",
        "Solvers at the same number of gradients, each at its best learning rate. On real problems a sweep of"
        " fixed weights is the one to beat.\n",
        table({**found, "rows": _linked(found["rows"])}),
        "",
    ]
    return "\n".join([*lines, _claims(result)])


def _clients() -> str:
    result = _result("fair_federated")
    found = result["tables"][0]
    lines = [
        "## Federated clients\n",
        "The mean alone hides who is served badly: look at the worst client.\n",
        table({**found, "rows": _linked(found["rows"])}),
        "",
        _claims(result),
        "With hostile clients:\n",
        table(_result("frl")["tables"][0]),
        "",
    ]
    return "\n".join(lines)


def _merging() -> str:
    result = _result("merging")
    found = result["tables"][0]
    wanted = (
        "each expert",
        "the base",
        "Average",
        "TaskArithmetic",
        "TIES",
        "RegMean",
        "SelfPositioning",
        "WUDI",
        "TSVM",
        "IsoC",
    )
    rows = [row for row in found["rows"] if str(row[0]).partition(",")[0].startswith(wanted)]
    lines = [
        "## Checkpoints\n",
        "Look first: `equipoise merge --inspect`. What told whether an average was worse than its base:\n",
        table(_result("merge_warning")["tables"][0]),
        "\nMethods on a small convolutional network:\n",
        table({**found, "rows": rows, "note": ""}),
        "",
    ]
    return "\n".join([*lines, _claims(result)])


def _models() -> str:
    result = _result("transferability")
    found = result["tables"][1]
    lines = [
        "## Which checkpoint to start from\n",
        "Rank correlation of each score with the accuracy after tuning; plain baselines are among them.\n",
        table({**found, "rows": found["rows"][:12]}),
        "",
    ]
    return "\n".join([*lines, _claims(result)])


def _claims(result: Mapping[str, Any]) -> str:
    lines = [f"- **{c['verdict']}**: {plain_text(c['claim'])}" for c in result["claims"]]
    return "\n".join(
        ["What the papers claim, and what was seen:\n", *lines, "\n[All evidence](evidence.md)\n"]
    )


def _linked(rows: Iterable[Row]) -> list[Row]:
    """Rows whose first cell, where it is the name of a method, links to its page."""
    known = {card.name: method_address(room, card) for room, card in methods.every()}
    return [[Link(row[0], known[row[0]]) if row[0] in known else row[0], *row[1:]] for row in rows]


def _result(name: str) -> Mapping[str, Any]:
    return json.loads((ROOT / "evidence" / "results" / f"{name}.json").read_text(encoding="utf-8"))
