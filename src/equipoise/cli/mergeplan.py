"""What `merge --dry-run` prints: what would be done, read, written and held, and how long it would take."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from equipoise.merging.specified import Specified

UNITS = ("B", "kB", "MB", "GB", "TB")


def print_plan(found: "Specified", as_json: bool) -> None:
    """Print the plan of a merge."""
    from equipoise.merging.estimate import estimate

    plan = found.plan
    told = estimate(plan, threads=found.threads)
    if as_json:
        content = {**asdict(told), "tensors": len(plan.tensors), "notes": list(plan.notes)}
        content["rules"] = [
            {"rule": rule, "tensors": tensors, "bytes": size} for rule, tensors, size in told.rules
        ]
        typer.echo(json.dumps(content, indent=2, allow_nan=False))
        return
    typer.echo(f"{len(plan.tensors)} tensors of {', '.join(plan.names)}{_base(found)}")
    for rule, tensors, size in told.rules:
        typer.echo(f"  {counted(tensors, 'tensor')}, {in_units(size)}: {rule}")
    if told.copied:
        typer.echo(f"  {counted(told.copied, 'tensor')} copied")
    typer.echo(f"read:   {in_units(told.read)} a pass")
    typer.echo(f"write:  {in_units(told.written)}")
    typer.echo(f"memory: about {in_units(told.memory)} with {counted(told.threads, 'thread')}")
    if told.seconds is not None:
        typer.echo(f"time:   about {told.seconds:.2g} s of arithmetic, beside reading and writing")
    for note in plan.notes:
        typer.echo(f"note: {note}", err=True)


def in_units(size: float) -> str:
    """A number of bytes in words.

    >>> in_units(1_500_000)
    '1.5 MB'
    """
    power = 0
    while size >= 1000 and power < len(UNITS) - 1:
        size, power = size / 1000, power + 1
    return f"{size:.0f} B" if not power else f"{size:.3g} {UNITS[power]}"


def counted(number: int, word: str) -> str:
    """A number with its noun.

    >>> counted(1, "thread"), counted(2, "thread")
    ('1 thread', '2 threads')
    """
    return f"{number} {word}{'' if number == 1 else 's'}"


def _base(found: "Specified") -> str:
    return "" if found.specification.base is None else f" and the base {found.specification.base}"
