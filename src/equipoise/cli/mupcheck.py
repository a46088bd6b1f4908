"""`equipoise scale mup-check`: whether a model's settings hold at other widths, and what muP makes of it."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import typer

BATCHES = 16
"""How many batches of the user's are kept, and taken in turn."""


class Checked(NamedTuple):
    """What was found, in words and as plain values; ok: no fault under muP."""

    words: str
    plain: dict[str, Any]
    ok: bool


def mup_check(given: str, widths: str, *, lr: float, steps: int, optimizer: str, transfer: bool) -> Checked:
    """The coordinate check of the standard parametrisation and of muP, and the transfer check.

    given: "file.py:make", a function that builds a model of a width; the file also has `batches`, a function
    or a list, that gives pairs (inputs, targets), and if the loss is not cross-entropy, `loss(output,
    targets)`. Raises BadParameter for a file without them, and what the checks raise.
    """
    from equipoise.scaling import coordinate_check, transfer_check

    make, pairs, loss = _parts(given)
    sizes = _widths(widths)
    base = sizes[0]
    common: dict[str, Any] = {"optimizer": optimizer, "loss": loss}
    checks = {
        name: coordinate_check(make, sizes, pairs, plan_base=on, lr=lr, steps=steps, **common)
        for name, on in (("standard", None), ("muP", base))
    }
    told = [str(check) for check in checks.values()]
    plain: dict[str, Any] = {name: {"ok": c.ok, "faults": c.faults()} for name, c in checks.items()}
    if transfer:
        moved = transfer_check(make, sizes, pairs, base=base, **common)
        told.append(str(moved))
        plain["transfer"] = {
            name: {"best": sweep.best, "penalty": sweep.penalty} for name, sweep in moved.sweeps.items()
        }
    return Checked("\n\n".join(told), plain, checks["muP"].ok)


def _parts(given: str) -> tuple[Callable[[int], Any], list[Any], Callable[[Any, Any], Any] | None]:
    from equipoise.problems.userfile import ProblemError, imported

    path, _, name = given.rpartition(":")
    if not path:
        raise typer.BadParameter(f"mup-check takes FILE.py:FUNCTION, not {given!r}")
    file = Path(path).resolve()
    if not file.is_file():
        raise typer.BadParameter(f"there is no file {path}")
    try:
        module = imported(file)
    except ProblemError as error:
        raise typer.BadParameter(str(error)) from None
    make, batches = getattr(module, name, None), getattr(module, "batches", None)
    if not callable(make):
        raise typer.BadParameter(f"{path} has no function {name!r}, that builds a model of a width")
    if batches is None:
        raise typer.BadParameter(f"{path} has no `batches`, a function or list of pairs (inputs, targets)")
    found: Any = batches() if callable(batches) else batches
    return make, list(islice(found, BATCHES)), getattr(module, "loss", None)


def _widths(text: str) -> list[int]:
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise typer.BadParameter(f"--widths: {text!r} is not a list of whole numbers, as 32,64,128") from None
    if len(found) < 2:
        raise typer.BadParameter("--widths: give two or more")
    return found
