"""What `run --front` and `report` say of a study of fronts."""

import json
from pathlib import Path

import typer


def report_fronts(folder: Path, as_json: bool) -> None:
    """Write the page of a study of fronts, and print what it says."""
    from equipoise.study.frontpage import cautions, sentence, write_page
    from equipoise.study.fronts import content, gather

    found = gather(folder)
    path = write_page(found)
    if as_json:
        typer.echo(json.dumps({**content(found), "report": str(path)}, indent=2, allow_nan=False))
        return
    typer.echo(sentence(found))
    for row in found.rows:
        gap = "" if row.gap is None else f", KKT gap {row.gap.mean:.3f}"
        typer.echo(
            f"{row.solver}: hypervolume {100 * row.hypervolume.mean:.1f}%, IGD+ {row.igd_plus.mean:.4f}, "
            f"coverage {100 * row.coverage.mean:.0f}%{gap}, {row.gradients:,} gradients, {row.seconds:.1f} s"
        )
    typer.echo(f"report: {path}")
    for caution in cautions(found):
        typer.echo(caution, err=True)
    if found.failures:
        typer.echo(f"{len(found.failures)} of {found.planned} fronts failed; the report says why", err=True)
