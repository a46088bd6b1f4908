"""What every experiment shares: the command line, tables, verdicts, and the file of results.

An experiment is a generator that yields tables and claims as it finds them:

    def experiment(fast):
        yield Table("what was measured", ("method", "error"), [("ours", spread(errors))])
        yield Claim("a", "ours is better", *verdict({"ours against theirs": interval(differences)}))

    if __name__ == "__main__":
        sys.exit(run(__file__, experiment, RECORDED))

Its file ends so, with the verdicts seen in a full run in `RECORDED`. `--fast` is for the mechanics
alone: tables are printed, claims are not, and nothing is kept.
"""

import argparse
import json
import platform
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import mean, stdev
from typing import Literal

import torch
from scipy import stats

import equipoise
from equipoise.core import atomic

Verdict = Literal["holds", "fails", "inconclusive"]
MOST_FAST = 15.0  # seconds of processor time for the mechanics of one experiment, imports aside
Interval = tuple[float, float]


@dataclass(frozen=True)
class Table:
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float]]
    note: str = ""


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, the verdict on it, and what was seen."""

    key: str
    claim: str
    verdict: Verdict
    seen: str


Experiment = Callable[[bool], Iterator[Table | Claim]]


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and standard deviation over seeds."""
    deviation = stdev(values) if len(values) > 1 else 0.0
    return f"{mean(values):.{digits}f} ± {deviation:.{digits}f}"


def interval(differences: Sequence[float], confidence: float = 0.95) -> Interval:
    """Student's interval of a mean over seeds; give paired differences to compare two methods."""
    centre = mean(differences)
    if len(differences) < 2:
        return float("-inf"), float("inf")
    width = stats.t.ppf(0.5 + confidence / 2, len(differences) - 1) * stdev(differences)
    width /= len(differences) ** 0.5
    return centre - width, centre + width


def verdict(advantages: Mapping[str, Interval]) -> tuple[Verdict, str]:
    """Intervals of advantages, positive where the claim is right -> the verdict, and what was seen.

    It holds where every interval lies above 0, fails where every one lies below, else it is open.
    """
    seen = "; ".join(f"{name} {low:+.3f} .. {high:+.3f}" for name, (low, high) in advantages.items())
    if all(low > 0 for low, _ in advantages.values()):
        return "holds", seen
    if all(high < 0 for _, high in advantages.values()):
        return "fails", seen
    return "inconclusive", seen


def run(file: str, experiment: Experiment, recorded: Mapping[str, Verdict]) -> int:
    """Run an experiment from the command line; the exit code is 1 where verdicts differ from the record."""
    parser = argparse.ArgumentParser(description=f"The experiment {Path(file).stem}.")
    parser.add_argument("--fast", action="store_true", help="the mechanics alone, without a verdict")
    fast = parser.parse_args().fast
    torch.set_num_threads(1)
    start, begun = time.perf_counter(), _processor_seconds()
    tables, claims = [], []
    for found in experiment(fast):
        if isinstance(found, Table):
            tables.append(found)
            print(_text(found), flush=True)
        else:
            claims.append(found)
    seconds = time.perf_counter() - start
    if fast:
        spent = _processor_seconds() - begun
        print(f"mechanics only, in {seconds:.0f} s, {spent:.0f} s of processor time")
        if spent > MOST_FAST:
            print(f"that is more than {MOST_FAST:.0f} s; make the fast setting smaller")
            return 1
        return 0 if {claim.key for claim in claims} == set(recorded) else _unknown(claims, recorded)
    for claim in claims:
        print(f"({claim.key}) {claim.verdict.upper()}: {claim.claim}\n    {claim.seen}")
    _write(Path(file), tables, claims, seconds)
    changed = [c for c in claims if recorded.get(c.key) != c.verdict]
    for claim in changed:
        print(f"({claim.key}) departs from the record, which says {recorded.get(claim.key, 'nothing')}")
    return 1 if changed or len(claims) != len(recorded) else 0


def _processor_seconds() -> float:
    """What this process and those it has started have used so far."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _unknown(claims: Sequence[Claim], recorded: Mapping[str, Verdict]) -> int:
    print(f"the claims are {[claim.key for claim in claims]}, but the record is of {list(recorded)}")
    return 1


def _text(table: Table) -> str:
    rows = [[_cell(value) for value in row] for row in (table.columns, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(["", table.title, *lines, *([table.note] if table.note else []), ""])


def _cell(value: str | int | float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _write(
    file: Path,
    tables: Sequence[Table],
    claims: Sequence[Claim],
    seconds: float,
) -> None:
    packages = ("torch", "numpy", "scipy", "scikit-learn", "moocore")
    result = {
        "name": file.stem,
        "claims": [asdict(claim) for claim in claims],
        "tables": [asdict(table) for table in tables],
        "versions": {
            "equipoise": equipoise.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
        "machine": f"{platform.system()} {platform.machine()}, one thread",
        "wall_seconds": round(seconds, 1),
    }
    folder = file.parent / "results"
    folder.mkdir(exist_ok=True)
    text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
    atomic.write(folder / f"{file.stem}.json", text + "\n")
