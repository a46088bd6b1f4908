"""What `merge` does beside merging: look at the models, trace trade-offs, measure models on data."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from equipoise.cli.arguments import numbers
from equipoise.core.errors import unknown

if TYPE_CHECKING:
    from equipoise.merging.mergefront import MergeFront
    from equipoise.merging.mergerule import MergeRule
    from equipoise.merging.specification import MergeSpecification


def look(told: "MergeSpecification", problem: str | None, page: Path | None, as_json: bool) -> None:
    """Print what `inspect` finds, and write its page where one is named.

    Raises BadParameter for slices, since models are looked at whole.
    """
    from equipoise.merging import inspect
    from equipoise.problems.registry import problem as find_problem

    if told.slices:
        raise typer.BadParameter("--inspect looks at whole models; leave out slices")
    if told.method != type(told).model_fields["method"].default or told.options or told.rules:
        words = "models and their plain average are looked at, whatever the method, its options and rules"
        typer.echo(f"note: {words}", err=True)
    found = inspect(
        _paths(told),
        _base(told, "--inspect"),
        problem=None if problem is None else find_problem(problem),
        on_missing=told.on_missing,
        vocab=told.vocab,
        reading=told.reading,
        pickles=told.pickles,
        threads=told.threads,
    )
    if page is not None:
        found.write(page)
    typer.echo(found.to_json() if as_json else str(found))
    if page is not None:
        typer.echo(f"page: {page}", err=as_json)


def measure(told: "MergeSpecification", problem: str, out: Path, as_json: bool) -> None:
    """Measure each model on the data of the objective of its name; print what a specification takes."""
    from equipoise.merging import calibrate_problem
    from equipoise.merging.methods import method_kind
    from equipoise.merging.statistics import KINDS
    from equipoise.problems.registry import problem as find_problem

    kind: Any = method_kind(told.method).statistic
    kinds: Any = KINDS if kind is None else (kind,)
    paths = calibrate_problem(find_problem(problem), _paths(told), out, kinds=kinds)
    content = {kind: {name: str(path) for name, path in files.items()} for kind, files in paths.items()}
    if as_json:
        typer.echo(json.dumps(content, indent=2))
        return
    for kind, files in content.items():
        typer.echo(f"{kind}, to be put into a specification:\nstatistics:")
        for name, path in files.items():
            typer.echo(f"  {name}: {path}")


def trade_offs(
    told: "MergeSpecification",
    problem: str,
    out: Path,
    *,
    evaluations: int | None,
    preference: str | None,
    as_json: bool,
) -> None:
    """Trace the front of the problem's losses over the merging weights; merge for a preference if named."""
    from equipoise.core.atomic import write
    from equipoise.merging.barrier import ProblemLosses
    from equipoise.merging.claim import vacant
    from equipoise.merging.map import MAP
    from equipoise.merging.specified import Specified, planning, writing
    from equipoise.problems.registry import problem as find_problem

    own = any(model.options for model in told.models.values())
    if told.slices or told.rules or own or told.options.get("weight", 1) != 1:
        raise typer.BadParameter(
            "--front sets the weights itself; leave out slices, rules, weights and models' options"
        )
    judged = find_problem(problem)
    wish = None if preference is None else _wish(preference, judged.objectives)
    merged = None if preference is None else vacant(out / _folder(preference))
    method, base = _weighted(told), _base(told, "--front")
    Specified(told)  # all that can be known before the first evaluation
    judge = ProblemLosses(judged, renew=8)

    def evaluate(state: Any) -> dict[str, float]:
        judge.load(state, renewed=True)
        return judge.losses()

    found = MAP(method=method, evaluations=evaluations, better="lower").trade_offs(
        _paths(told),
        base,
        evaluate,
        folder=out,
        about={"problem": _problem(problem)},
        **planning(told),
        **writing(told),
    )
    found.predicted.plot(out / "front.html")
    content = _content(found)
    if merged is not None:
        choice = found.pick(wish)
        picked = {"weights": dict(choice.coefficients), "losses": dict(choice.metrics)}
        content["picked"] = {**picked, "model": merged.name}
    text = json.dumps(content, indent=2, allow_nan=False)
    write(out / "front.json", text + "\n")
    if merged is not None:
        found.merge(wish, out=merged)
    if as_json:
        typer.echo(text)
        return
    for row in content["front"]:
        typer.echo(f"{_listed(row['losses'])}  by weights {_listed(row['weights'])}")
    errors = {metric: error for metric, error in content["error"].items() if error is not None}
    typer.echo(f"{found.evaluated} models evaluated; error of the fit over the spread: {_listed(errors)}")
    typer.echo(f"front: {out / 'front.html'}")
    if merged is not None:
        typer.echo(f"merged: {out / merged.name} by weights {_listed(content['picked']['weights'])}")


def _content(found: "MergeFront") -> dict[str, Any]:
    """The predicted front in plain values."""
    front = found.predicted
    rows = [
        {
            "weights": dict(zip(found.names, solution["weights"].tolist(), strict=True)),
            "losses": dict(zip(found.metrics, (point * found.surrogate.signs).tolist(), strict=True)),
        }
        for point, solution in zip(front.points, front.solutions, strict=True)
    ]
    errors = {metric: None if error == float("inf") else error for metric, error in found.error.items()}
    return {"models": list(found.names), "evaluated": found.evaluated, "error": errors, "front": rows}


def _weighted(told: "MergeSpecification") -> Any:
    """The method of a specification, waiting for the weights of the models."""
    from equipoise.merging.methods import method_kind
    from equipoise.merging.options import build

    if "weight" not in method_kind(told.method).per_model:
        raise typer.BadParameter(f"--front varies the weights of models, and {told.method} has none")
    options = {key: value for key, value in told.options.items() if key != "weight"}

    def method(weight: Any) -> "MergeRule":
        return build(told.method, {**options, "weight": weight})

    return method


def _wish(text: str, objectives: Sequence[str]) -> Any:
    """A preference as 0.7,0.3 or NAME=0.7,NAME=0.3. Raises BadParameter."""
    if "=" not in text:
        found = numbers(text)
        if len(found) != len(objectives):
            names = ", ".join(objectives)
            raise typer.BadParameter(
                f"--preference {text}: {len(objectives)} objectives are to be weighed: {names}"
            )
        return found
    words = [word.rpartition("=") for word in text.split(",")]
    for name, _, _ in words:
        if name.strip() not in objectives:
            raise typer.BadParameter(f"--preference: {unknown('objective', name.strip(), objectives)}")
    return {name.strip(): numbers(value)[0] if value.strip() else 0.0 for name, _, value in words}


def _folder(preference: str) -> str:
    """The folder of the model that is merged for a preference."""
    return "merged-" + re.sub(r"[^\w.=,-]+", "_", preference.replace(" ", ""))


def _problem(name: str) -> str:
    """A problem as it is known again: a built-in one by its name, a file by its content."""
    from equipoise.merging.provenance import digest

    path = Path(name).expanduser()
    return f"SHA-256 {digest(path, 'whole')}" if path.suffix == ".py" else name


def _listed(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def _paths(told: "MergeSpecification") -> dict[str, str | Path]:
    return {name: model.path for name, model in told.models.items()}


def _base(told: "MergeSpecification", option: str) -> str:
    if told.base is None:
        raise typer.BadParameter(f"{option} needs the base of the models; name it with --base")
    return told.base
