"""`equipoise select`: what to start from."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from equipoise.transferability import Pool


class What(StrEnum):
    """What is chosen."""

    models = "models"


def select(
    what: Annotated[What, typer.Argument(metavar="models", help="What to choose: models.")],
    features: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A folder of features, NAME.npz or NAME.safetensors for each model."
        ),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(
            metavar="FN | DIR",
            help="A function that gives modules by name, as module:fn or FILE.py:fn; or a folder of models "
            "that transformers saved, one folder each.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="The target: a file with inputs and labels (.npz, .safetensors) or a function that gives "
            "batches; with --features labels alone, which the files may hold themselves.",
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            help="Whose output is taken, or with :input its input; default the last Linear's input."
        ),
    ] = None,
    numbers: Annotated[
        bool, typer.Option("--numbers", help="Labels are numbers, for regression, not classes.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Samples of a batch of a target in a file.")] = 256,
    scores: Annotated[
        str,
        typer.Option(
            help="Scores as a,b,c, with options as hscore:shrinkage=true; `equipoise list transferability` "
            "has them."
        ),
    ] = "all",
    by: Annotated[str | None, typer.Option(help="The column that decides; default LogME.")] = None,
    truth: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Fine-tuned accuracies by model, CSV or JSON."),
    ] = None,
    static: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help='Numbers known without the target, JSON: {"parameters": {MODEL: N}, "history": '
            "{TARGET: {MODEL: accuracy}}}.",
        ),
    ] = None,
    facts: Annotated[
        str,
        typer.Option(help="Numbers in files of features that are columns too, higher is better, as a,b."),
    ] = "parameters,source accuracy",
    bootstrap: Annotated[
        int, typer.Option(min=0, help="Half-samples of the target, for how sure the order is.")
    ] = 20,
    seed: Annotated[int, typer.Option(help="Of the half-samples.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write report.html, ranking.json, ranking.svg, and features there."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing while it works.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the ranking as JSON.")] = False,
) -> None:
    """Rank models for a target by every score from one forward pass, with plain baselines beside them.

    Either from saved features: select models --features DIR --target labels.npz; or from live modules: select
    models --models models.py:all --target data.npz.
    """
    from equipoise.cli.selectinputs import labels_of, static_of, truth_of
    from equipoise.transferability import Pool, rank
    from equipoise.transferability.rank import STATIC_RANK, check_given
    from equipoise.transferability.scorers import PROBES, scorers

    if (features is None) == (models is None):
        raise typer.BadParameter("give either --features DIR or --models, not both")
    if features is not None and layer is not None:
        raise typer.BadParameter("--layer is for --models; saved features come from one already")
    try:
        chosen = [scorer.name for scorer in scorers(scores)]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    known = {} if truth is None else truth_of(truth)

    def say(name: str) -> None:
        if not quiet:
            typer.echo(name, err=True)

    if features is not None:
        pool = Pool.from_folder(
            features,
            None if target is None else labels_of(target),
            facts=[fact.strip() for fact in facts.split(",") if fact.strip()],
            numbers=numbers,
        )
    else:
        if target is None:
            raise typer.BadParameter("--models are run on a target; name it with --target")
        names, pairs = _models(str(models))
        columns, history = ({}, {}) if static is None else static_of(static, names or ())
        facts_known = {"parameters", *columns, *((STATIC_RANK,) if history else ())}
        if names is None:  # then a table may be by models or by columns
            facts_known.update(fact for found in columns.values() for fact in found)
        check_given(names, [*chosen, *PROBES], by, known, columns if names else {}, history, facts_known)
        pool = _from_models(pairs, target, layer, batch, numbers, out, say)
    columns, history = ({}, {}) if static is None else static_of(static, pool)
    found = rank(
        pool,
        scores=scores,
        by=by,
        truth=known,
        static=columns,
        history=history,
        bootstrap=bootstrap,
        seed=seed,
        progress=say,
    )
    typer.echo(found.to_json() if as_json else str(found))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for name in ("ranking.json", "ranking.svg", "report.html"):
            found.write(out / name)
        typer.echo(f"report: {out / 'report.html'}", err=as_json)


def _models(models: str) -> tuple[list[str] | None, Iterable[tuple[str, Any]]]:
    """Names and models of --models; no names where a generator makes the models one by one."""
    from equipoise.cli.selectinputs import function, is_function

    if is_function(models):
        given = function(models, "--models")()
        if not hasattr(given, "__iter__"):
            raise ValueError(f"{models} gave {type(given).__name__}; give a mapping of names to modules")
        return ([*given], given.items()) if isinstance(given, Mapping) else (None, given)
    if not Path(models).is_dir():
        raise typer.BadParameter(
            f"--models: {models} is no folder, and no function as module:function or FILE.py:function"
        )
    folders = sorted(path for path in Path(models).iterdir() if (path / "config.json").is_file())
    if not folders:
        raise ValueError(f"{models} holds no folders of models with a config.json, as transformers saves")
    return [path.name for path in folders], [(path.name, path) for path in folders]


def _from_models(
    pairs: Iterable[tuple[str, Any]],
    target: str,
    layer: str | None,
    size: int,
    numbers: bool,
    out: Path | None,
    say: Callable[[str], None],
) -> "Pool":
    """The features of live models on a target."""
    from equipoise.cli.selectinputs import batches_of
    from equipoise.transferability import model_pool

    def told() -> Iterator[tuple[str, Any]]:
        for name, model in pairs:
            say(f"features of {name}")
            yield name, model

    folder = None if out is None else out / "features"
    return model_pool(told(), batches_of(target, size), layer=layer, folder=folder, numbers=numbers)
