"""Advice: a short study of one's own problem, put into words: which rule, who loses, who conflicts where."""

import json
from collections.abc import Sequence
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
from equipoise.study.verdict import factors, points

FILE = "profile.json"


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do, with the grounds for it; `rule` is the one to use, Mean where none is better."""

    rule: str
    sentences: tuple[str, ...]
    losers: tuple[str, ...]
    profile: Profile

    def to_json(self) -> dict[str, Any]:
        """The advice as JSON can hold it."""
        return finite(
            {
                "rule": self.rule,
                "sentences": list(self.sentences),
                "losers": list(self.losers),
                "conflict": self.profile.to_json(),
            }
        )


def advise(run: Run) -> Advice:
    """Advice from a finished study; measures the conflict profile where the folder has none yet."""
    analysis = analyse(run)
    found = _profile(run, analysis)
    rule = analysis.verdict.rule or BASELINE
    candidate = analysis.row(analysis.leader or BASELINE)
    losers = _losers(candidate, analysis) if candidate is not None else ()
    sentences = (
        analysis.verdict.sentence,
        *_cost(analysis, candidate),
        _loss(candidate, losers),
        *_against_fixed(analysis, candidate),
        *conflict(found),
        *analysis.cautions,
    )
    return Advice(rule, tuple(sentence for sentence in sentences if sentence), tuple(losers), found)


def conflict(found: Profile) -> list[str]:
    """The conflict profile in sentences."""
    real = [pair for pair in found.pairs if pair.conflicts]
    if not found.pairs:
        return ["There is one objective, so nothing conflicts."]
    worst = found.pairs[0]
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


def _profile(run: Run, analysis: Analysis) -> Profile:
    path = run.folder / FILE
    if path.exists():
        return Profile.from_json(json.loads(path.read_text(encoding="utf-8")))
    choice = analysis.choices.get(("rule", BASELINE, None))
    rate = run.learning_rates[0] if choice is None else choice.learning_rate
    found = profile(Trainer(Store(Path(run.folder)).specification()), rate, run.seeds)
    write(path, json.dumps(found.to_json(), allow_nan=False) + "\n")
    return found


def _losers(row: Row, analysis: Analysis) -> dict[str, tuple[float, float, float]]:
    """Objectives that a rule leaves worse than the mean does, beyond chance: mean difference and interval."""
    lost = {}
    for name, differences in row.against.items():
        mean, low, high = _paired(differences, len(row.against), analysis.verdict.confidence)
        if high < 0:
            lost[name] = (mean, low, high)
    return lost


def _paired(differences: Sequence[float], compared: int, confidence: float) -> tuple[float, float, float]:
    n = len(differences)
    mean = sum(differences) / n
    deviation = (sum((d - mean) ** 2 for d in differences) / max(1, n - 1)) ** 0.5
    width = factors(n, compared, confidence)[0] * deviation if n > 1 else float("inf")
    return mean, mean - width, mean + width


def _cost(analysis: Analysis, row: Row | None) -> list[str]:
    if row is None or row.time is None or row.rule == BASELINE:
        return []
    return [f"A step of {row.rule} takes {row.time.ratio:.2f} times one of {BASELINE}."]


def _loss(row: Row | None, lost: Any) -> str:
    if row is None or row.rule == BASELINE:
        return ""
    if not lost:
        return f"With {row.rule} no objective does worse than with {BASELINE} beyond chance."
    parts = [
        f"{name} ({points(mean)} points, {points(low)} to {points(high)})"
        for name, (mean, low, high) in lost.items()
    ]
    return f"With {row.rule} {wording.listed(parts)} does worse than with {BASELINE}."


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
