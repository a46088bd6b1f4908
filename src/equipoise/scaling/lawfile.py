"""load_law: a fitted law from the file that it was saved to."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import equipoise.scaling
from equipoise.core.card import cards
from equipoise.core.errors import unknown
from equipoise.scaling.fittedlaw import FORMAT, FittedLaw, Holdout, Used
from equipoise.scaling.law import Law
from equipoise.scaling.runs import Runs


def load_law(path: str | Path) -> FittedLaw:
    """The law that `FittedLaw.save` wrote, with its runs and refits. Nothing is fitted again, but for trees.

    Raises FileNotFoundError without the file, and ValueError naming it where it holds no law of the library.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(held, dict) or held.get("format") != FORMAT:
            raise ValueError("it does not begin as a saved law does")
        return _restored(held)
    except (ValueError, KeyError, TypeError) as error:
        told = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} holds no law that can be read here: {told}") from None


def _restored(held: Mapping[str, Any]) -> FittedLaw:
    law, runs = _law(held), Runs(held["runs"])
    singles, used = {}, {}
    for objective, part in held["losses"].items():
        rows, own = np.array(held["kept"][objective], dtype=int), law.own_of(runs, objective)
        x, y = runs.features.take(rows), runs.loss(objective)[rows]
        singles[objective] = law.restored(x, y, own, part)
        used[objective] = Used(rows, float(held["delta"][objective]))
    found = held["holdout"]
    judged = None
    if found is not None:
        errors = {name: np.array(errors) for name, errors in found["errors"].items()}
        judged = Holdout(found["what"], int(found["rows"]), errors)
    return FittedLaw(law, runs, singles, used, judged)


def _law(held: Mapping[str, Any]) -> Law:
    known = [card.name for card in cards("scaling").values() if card.shape == "law"]
    if held["law"] not in known:
        raise ValueError(unknown("law", held["law"], known))
    options = {
        name: _law(value) if isinstance(value, Mapping) and "law" in value else value
        for name, value in held["options"].items()
    }
    return getattr(equipoise.scaling, held["law"])(**options)
