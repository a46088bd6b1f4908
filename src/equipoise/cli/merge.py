"""`equipoise merge`: one model from many."""

import json
from enum import StrEnum
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from equipoise.cli.arguments import pairs
from equipoise.cli.lasting import lasting_imports
from equipoise.cli.termination import cleaned_up

FORMS = (".yaml", ".yml", ".toml", ".json")


class OnMissing(StrEnum):
    """What becomes of a tensor that a model lacks."""

    fail = "fail"
    base = "base"
    skip = "skip"


class Vocab(StrEnum):
    """What becomes of unlike numbers of tokens."""

    fail = "fail"
    intersect = "intersect"
    union = "union"


class Dtype(StrEnum):
    """How the merged model is stored."""

    float64 = "float64"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@cleaned_up()
def merge(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SPEC | MODEL...",
            help="A specification (YAML, TOML or JSON, mergekit's too), or models as PATH or NAME=PATH.",
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="DIR", help="A new folder.")] = None,
    method: Annotated[str | None, typer.Option(help="Method; `equipoise list merging` has them.")] = None,
    base: Annotated[str | None, typer.Option(metavar="PATH", help="What the models were tuned from.")] = None,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set an option of the method, of a model (NAME.KEY=VALUE), or a key of the specification.",
        ),
    ] = None,
    on_missing: Annotated[
        OnMissing | None, typer.Option(help="A tensor that a model lacks: fail, take the base's, or skip.")
    ] = None,
    vocab: Annotated[
        Vocab | None, typer.Option(help="Unlike vocabularies: fail, rows that all have, or all rows.")
    ] = None,
    dtype: Annotated[Dtype | None, typer.Option(help="Of the merged model; default as stored.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read all first, and tell all values that are not finite.")
    ] = False,
    shard_size: Annotated[str | None, typer.Option(metavar="SIZE", help="Of a file, as 5GB.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Default one for each CPU, at most 8.")] = None,
    print_spec: Annotated[
        bool, typer.Option("--print-spec", help="Print the whole specification and stop.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, with bytes, memory and time, and stop.")
    ] = False,
    inspect: Annotated[
        bool, typer.Option("--inspect", help="Look at the models and stop; --out FILE.html writes a page.")
    ] = False,
    front: Annotated[
        bool,
        typer.Option("--front", help="Trace the trade-offs of --problem into --out, by few evaluations."),
    ] = False,
    problem: Annotated[
        str | None, typer.Option(metavar="PROBLEM", help="A problem that --inspect and --front evaluate on.")
    ] = None,
    evaluations: Annotated[
        int | None, typer.Option(min=1, help="Merged models that --front evaluates; default by models.")
    ] = None,
    preference: Annotated[
        str | None, typer.Option(help="With --front: also merge for it, as NAME=0.7,NAME=0.3 or 0.7,0.3.")
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            metavar="PROBLEM", help="Measure models on a problem's data into --out, for RegMean, Fisher."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no notes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Merge models that were tuned from one base into one model, tensor by tensor, in little memory.

    Either a specification says it all, or models are named here: merge --method ties --base B A1 A2 -o DIR.
    What is given here goes before what the specification says. Nothing is left of a merge that is stopped.
    """
    with lasting_imports():
        from equipoise.cli.mergelooks import look, measure, trade_offs
        from equipoise.cli.mergeplan import print_plan
        from equipoise.merging.specified import Specified
        from equipoise.merging.specify import changed, read_specification, specify

    if sum((print_spec, dry_run, inspect, front, calibrate is not None)) > 1:
        raise typer.BadParameter(
            "--print-spec, --dry-run, --inspect, --front and --calibrate exclude each other"
        )
    given: dict[str, Any] = (
        read_specification(sources[0]) if is_specification(sources) else {"models": models(sources)}
    )
    asked = {
        "method": method,
        "base": base,
        "on_missing": on_missing,
        "vocab": vocab,
        "dtype": dtype,
        "check": check or None,
        "shard_size": shard_size,
        "threads": threads,
    }
    given |= {key: getattr(value, "value", value) for key, value in asked.items() if value is not None}
    if front and "method" not in given:
        given["method"] = "TaskArithmetic"
    specification = specify(
        changed(given, pairs(options or ())), sources[0] if is_specification(sources) else ""
    )
    if print_spec:
        typer.echo(specification.to_yaml(), nl=False)
        return
    if problem is not None and not (inspect or front):
        raise typer.BadParameter("--problem is for --inspect and --front")
    if (evaluations is not None or preference is not None) and not front:
        raise typer.BadParameter("--evaluations and --preference are for --front")
    if inspect:
        return look(specification, problem, out, as_json)
    if dry_run:
        return print_plan(Specified(specification), as_json)
    if out is None:
        raise typer.BadParameter("name a new folder with --out DIR")
    if calibrate is not None:
        return measure(specification, calibrate, out, as_json)
    if not front:
        return _write(Specified(specification), out, quiet, as_json)
    if problem is None:
        raise typer.BadParameter("--front evaluates on a problem; name it with --problem")
    trade_offs(specification, problem, out, evaluations=evaluations, preference=preference, as_json=as_json)


def is_specification(sources: list[str]) -> bool:
    """Whether one file in the form of a specification is named, rather than models."""
    name = sources[0].lower()
    return len(sources) == 1 and name.endswith(FORMS) and not name.endswith(".index.json")


def models(sources: list[str]) -> dict[str, str] | list[str]:
    """Models by the names they are given, or as paths where none is. Raises BadParameter for both at once."""
    named = [] if any(Path(source).exists() for source in sources) else [s.partition("=") for s in sources]
    if not any(equals for _, equals, _ in named):
        return sources
    if not all(name and path for name, _, path in named):
        raise typer.BadParameter("name all models, as NAME=PATH, or none")
    if len({name for name, _, _ in named}) < len(named):
        raise typer.BadParameter(f"a name is given twice in {', '.join(sources)}")
    return {name: path for name, _, path in named}


def _write(found: Any, out: Path, quiet: bool, as_json: bool) -> None:
    from equipoise.cli.mergeplan import counted, in_units
    from equipoise.cli.mergeprogress import bytes_bar

    plan, start = found.plan, perf_counter()
    if not quiet:
        for note in plan.notes:
            typer.echo(f"note: {note}", err=True)
    try:
        with bytes_bar(plan.nbytes, quiet) as progress:
            found.run(out, progress=progress)
    except KeyboardInterrupt:
        typer.echo("\nstopped; nothing was written", err=True)
        raise typer.Exit(1) from None
    seconds = perf_counter() - start
    if as_json:
        content = {
            "out": str(out),
            "method": found.specification.method,
            "models": {name: model.path for name, model in found.specification.models.items()},
            "base": found.specification.base,
            "tensors": len(plan.tensors),
            "bytes": plan.nbytes,
            "seconds": round(seconds, 3),
            "notes": list(plan.notes),
        }
        typer.echo(json.dumps(content, indent=2, allow_nan=False))
        return
    typer.echo(f"{out}: {counted(len(plan.tensors), 'tensor')}, {in_units(plan.nbytes)}, {seconds:.1f} s")
