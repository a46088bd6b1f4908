"""Advice: a short study of one's own problem, put into words: which rule, who loses, who conflicts where."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.core.atomic import write
from equipoise.study import wording
from equipoise.study.analysis import BASELINE, Analysis, Row, analyse
from equipoise.study.finite import finite
from equipoise.study.profile import Profile, profile
from equipoise.study.results import Run
from equipoise.study.store import Store
from equipoise.study.training import Trainer
from equipoise.study.verdict import Comparison, amount, points, verdict

FILE = "profile.json"
WIDE = 5  # times what is worthwhile, beyond which a possible loss is not called none


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do, with the grounds for it; `rule` is the one to use, Mean where none is better, and `profile`
    says who conflicts, None where that could not be measured."""

    rule: str
    sentences: tuple[str, ...]
    losers: tuple[str, ...]
    profile: Profile | None

    def to_json(self) -> dict[str, Any]:
        """The advice as JSON can hold it."""
        return finite(
            {
                "rule": self.rule,
                "sentences": list(self.sentences),
                "losers": list(self.losers),
                "conflict": self.profile and self.profile.to_json(),
            }
        )


def advise(run: Run) -> Advice:
    """Advice from a study that has ended; measures the conflict profile where the folder has none yet.

    A profile that cannot be measured is left out, and the advice says why.
    """
    analysis, why = analyse(run), ""
    found = _kept(run)
    if found is None:
        try:
            found = _measured(run, analysis)
        except Exception as error:  # whatever the problem raises; its trials tell of it too
            why = f"Who conflicts was not measured: {error}."
    return _advice(analysis, found, why)


def kept(run: Run) -> Advice | None:
    """The advice of a folder that was advised on before; None for any other."""
    found = _kept(run)
    return None if found is None else _advice(analyse(run), found, "")


def _advice(analysis: Analysis, found: Profile | None, why: str) -> Advice:
    rule = analysis.verdict.rule or BASELINE
    candidate = analysis.row(analysis.leader or BASELINE)
    sentences = (
        analysis.verdict.sentence,
        *_cost(analysis, candidate),
        *loss(candidate, analysis),
        *_against_fixed(analysis, candidate),
        *(conflict(found) if found is not None else (why,)),
        *analysis.cautions,
    )
    losers = _losers(candidate, analysis) if candidate is not None else {}
    return Advice(rule, tuple(sentence for sentence in sentences if sentence), tuple(losers), found)


def conflict(found: Profile) -> list[str]:
    """The conflict profile in sentences."""
    real = [pair for pair in found.pairs if pair.conflicts]
    if not found.pairs:
        return ["There is one objective, so nothing conflicts."]
    worst = real[0] if real else found.pairs[0]
    said = (
        f"cosine {wording.number(worst.cosine, 2)}, interval {wording.number(worst.low, 2)} to "
        f"{wording.number(worst.high, 2)}"
    )
    if not real:
        return [
            f"No two objectives conflict beyond the noise of their batches; the closest to it are "
            f"{worst.first} and {worst.second} ({said})."
        ]
    where = [f"{layer} ({share:.0%})" for layer, share in worst.worst_layers()]
    lines = [
        f"{worst.first} and {worst.second} conflict ({said}), most in {wording.listed(where)}."
        if len(real) == 1
        else f"{len(real)} of {len(found.pairs)} pairs conflict beyond noise, {worst.first} and "
        f"{worst.second} most ({said}), in {wording.listed(where)}."
    ]
    hurt = {name: share for name, share in found.hurt.items() if share >= 0.5}
    if hurt:
        lines.append(f"The mean goes against {wording.listed(hurt)} at half of all looks or more.")
    if found.norm_ratio is not None and found.norm_ratio > 10:
        lines.append(
            f"The longest direction is {found.norm_ratio:.0f} times the shortest, and leads the mean."
        )
    return lines


def _kept(run: Run) -> Profile | None:
    path = run.folder / FILE
    return Profile.from_json(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def _measured(run: Run, analysis: Analysis) -> Profile:
    choice = analysis.choices.get(("rule", BASELINE, None))
    rate = run.learning_rates[0] if choice is None else choice.learning_rate
    found = profile(Trainer(Store(Path(run.folder)).specification()), rate, run.seeds)
    write(run.folder / FILE, json.dumps(found.to_json(), allow_nan=False) + "\n")
    return found


def _paired(row: Row, analysis: Analysis) -> dict[str, Comparison]:
    """The gain of a rule over the mean, objective by objective, with intervals that hold for all at once."""
    if row.rule == BASELINE or not row.against:
        return {}
    zeros = [0.0] * len(next(iter(row.against.values())))
    found = verdict({BASELINE: zeros, **row.against}, confidence=analysis.verdict.confidence)
    return {one.rule: one for one in found.comparisons}


def _losers(row: Row, analysis: Analysis) -> dict[str, Comparison]:
    """The objectives that do worse than under the mean, beyond chance."""
    return {name: one for name, one in _paired(row, analysis).items() if one.high < 0}


def _cost(analysis: Analysis, row: Row | None) -> list[str]:
    if row is None or row.time is None or row.rule == BASELINE:
        return []
    return [f"A step of {row.rule} takes {row.time.ratio:.2f} times one of {BASELINE}."]


def loss(row: Row | None, analysis: Analysis) -> list[str]:
    """Who does worse under a rule than under the mean, in a sentence."""
    compared = {} if row is None else _paired(row, analysis)
    if row is None or not compared:
        return []
    lost = _losers(row, analysis)
    if lost:
        parts = [
            f"{name} ({points(one.gain)} points, {points(one.low)} to {points(one.high)})"
            for name, one in lost.items()
        ]
        return [f"Worse off with {row.rule} than with {BASELINE}: {wording.listed(parts)}."]
    low = min(one.low for one in compared.values())
    if low < -WIDE * analysis.verdict.worthwhile:
        return [
            f"Whether an objective does worse with {row.rule} than with {BASELINE} cannot be told: by the "
            f"intervals one may lose {amount(-low)}."
        ]
    return [f"With {row.rule} no objective does worse than with {BASELINE} by more than {amount(-low)}."]


def _against_fixed(analysis: Analysis, row: Row | None) -> list[str]:
    """The best of a sweep of fixed weightings, which has a rule's budget."""
    fixed = next((r for r in analysis.rows if r.kind == "fixed" and r.score), None)
    mean = analysis.row(BASELINE)
    if fixed is None or fixed.score is None or mean is None or mean.score is None:
        return []
    best = row.score.mean if row is not None and row.score is not None else mean.score.mean
    return [
        f"{fixed.label}, the best of a sweep with a rule's budget, scores "
        f"{points(fixed.score.mean - mean.score.mean)} points from {BASELINE}, "
        f"{row.rule if row else BASELINE} {points(best - mean.score.mean)}."
    ]
