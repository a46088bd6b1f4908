"""What the weights of a rule cost beside TorchJD's, on one Gramian of m directions, and how exact they are.

Directions are mixtures of few, with noise, so that nearly half of their cosines are negative. Both take
turns on one thread; a figure is the median of the ratios within a turn, with quartiles. TorchJD stands
beside where it is installed, with its defaults.
"""

import argparse
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from statistics import median

import numpy as np
import torch
from benchmarks.record import about, record
from benchmarks.sidebyside import Step, in_turns, ratio, shown
from scipy.optimize import nnls
from torch import Tensor

from equipoise import aggregation
from equipoise.core.averse import averse
from equipoise.core.gramian import block_gramian
from equipoise.core.qp import dual_cone, min_norm

PEERS = find_spec("torchjd") is not None
RULES = ("UPGrad", "DualProj", "MGDA", "PCGrad", "GradVac", "CAGrad", "FairGrad", "AlignedMTL", "IMTLG")
SIZES = (2, 8, 32, 128)
GOALS = {("PCGrad", 128): 20, ("GradVac", 128): 20, ("UPGrad", 128): 3, ("MGDA", 128): 1}
OPTIONS = {"CAGrad": {"c": 0.5}, "FairGrad": {"alpha": 1.0}}


def rows_of(m: int, columns: int) -> Tensor:  # -> (m, columns)
    """m directions in conflict."""
    drawn = torch.Generator().manual_seed(m)
    few = max(2, m // 2)
    mixed = torch.randn(m, few, generator=drawn) @ torch.randn(few, columns, generator=drawn)
    return mixed + 0.5 * torch.randn(m, columns, generator=drawn)


def contenders(name: str, m: int) -> dict[str, Step]:
    """Our rule and TorchJD's on the same Gramian; each its own dtype."""
    gramian = block_gramian(rows_of(m, 4 * m))
    rule = getattr(aggregation, name)()
    found: dict[str, Step] = {"equipoise": lambda: rule(gramian)}
    if PEERS:
        import torchjd.aggregation as peers

        theirs = getattr(peers, f"{name}Weighting")(**OPTIONS.get(name, {}))
        narrow = gramian.float()
        found["torchjd"] = lambda: theirs(narrow)
    return found


def times_table(turns: int) -> dict:
    """One row for each rule, a column for each m."""
    rows = []
    for name in RULES:
        cells = []
        for m in SIZES:
            taken = in_turns(contenders(name, m), max(3, turns if m < 128 else turns // 3))
            ours = f"{1e3 * median(taken['equipoise']):.3f} ms"
            if PEERS:
                theirs = shown(ratio(taken["torchjd"], taken["equipoise"]), GOALS.get((name, m)))
                cells.append(f"{ours}, {theirs}")
            else:
                cells.append(ours)
        rows.append([name, *cells])
    return {
        "title": "Weights from a Gramian: ours in milliseconds, and TorchJD's time over ours",
        "columns": ["rule", *(f"m = {m}" for m in SIZES)],
        "rows": rows,
        "note": "Median (quartiles); goal in square brackets.",
    }


def config_table(turns: int) -> dict:
    """ConFIG through the Gramian against the pseudo-inverse of the matrix."""
    rows, config = rows_of(8, 10**6), aggregation.ConFIG()
    steps: dict[str, Callable[[], Tensor]] = {"equipoise": lambda: config(block_gramian(rows)).float() @ rows}
    apart, beside = "", "not installed"
    if PEERS:
        import torchjd.aggregation as peers

        theirs = peers.ConFIG()
        steps["torchjd"] = lambda: theirs(rows)
        spreads = [uneven(rows, update) for update in (steps["equipoise"](), theirs(rows))]
        apart = f"{spreads[0]:.1e}, {spreads[1]:.1e}"
    taken = in_turns(steps, max(3, turns // 3))
    if PEERS:
        beside = shown(ratio(taken["torchjd"], taken["equipoise"]), 30)
    return {
        "title": "The update of ConFIG, Gramian and combination included",
        "columns": ["matrix", "ours", "TorchJD / ours", "spread of the cosines, ours and TorchJD's"],
        "rows": [["8 x 1,000,000", f"{1e3 * median(taken['equipoise']):.1f} ms", beside, apart]],
        "note": "TorchJD takes a pseudo-inverse of the unit rows, ours that of their cosines. The cosines "
        "of the update with all rows should be equal; a pseudo-inverse of a float32 matrix with a million "
        "columns drops singular values below 0.12 of the largest by default.",
    }


def uneven(rows: Tensor, update: Tensor) -> float:
    """Largest less least cosine of the update with the rows."""
    cosines = (rows @ update) / rows.norm(dim=1) / update.norm()
    return float(cosines.max() - cosines.min())


def programs_table(turns: int) -> dict:
    """The m projections of UPGrad beside a loop over an NNLS solver, where the Gramian is regular or not."""
    rows = []
    for m in SIZES[1:]:
        cells = [f"m = {m}"]
        for matrix in (rows_of(m, 4 * m), rows_of(m, m // 2 + 1)):
            gramian, eye = block_gramian(matrix), torch.eye(m, dtype=torch.float64)
            steps: dict[str, Step] = {
                "equipoise": lambda gramian=gramian, eye=eye: dual_cone(gramian, eye),
                "nnls": lambda gramian=gramian: one_by_one(gramian),
            }
            taken = in_turns(steps, max(3, turns if m < 128 else turns // 3))
            ours = f"{1e3 * median(taken['equipoise']):.3f} ms"
            cells.append(f"{ours}, {shown(ratio(taken['nnls'], taken['equipoise']))}")
        rows.append(cells)
    return {
        "title": "The projections of UPGrad: ours in milliseconds, and m calls of SciPy's NNLS over ours",
        "columns": ["", "rows independent", "rank m / 2 + 1"],
        "rows": rows,
        "note": "SciPy's NNLS is compiled; with few directions what Python does between calls weighs most in "
        "ours. Of a singular Gramian ours also finds the solution nearest to the targets.",
    }


def one_by_one(gramian: Tensor) -> np.ndarray:  # (m, m) -> (m, m)
    """Each unit target raised by non-negative least squares, on a root of the Gramian."""
    values, vectors = np.linalg.eigh(gramian.numpy())
    root = (vectors * np.sqrt(values.clip(0.0))).T
    return np.eye(len(root)) + np.stack([nnls(root, -column)[0] for column in root.T])


def stacks_table(turns: int) -> dict:
    """A hundred Gramians at once beside one after the other."""
    rows, apart = [], 0.0
    for m in (2, 4, 8, 16, 32):
        gramians = torch.stack([block_gramian(part) for part in rows_of(m, 400 * m).split(4 * m, dim=1)])
        eye, cells = torch.eye(m, dtype=torch.float64), [f"m = {m}"]
        for solve in (min_norm, lambda gramian, eye=eye: dual_cone(gramian, eye)):
            steps: dict[str, Step] = {
                "stack": lambda solve=solve, gramians=gramians: solve(gramians),
                "loop": lambda solve=solve, gramians=gramians: [solve(gramian) for gramian in gramians],
            }
            alone = torch.stack([solve(gramian).value for gramian in gramians])
            apart = max(apart, float((solve(gramians).value - alone).abs().max()))
            taken = in_turns(steps, max(3, turns // 3))
            ours = f"{1e3 * median(taken['stack']):.2f} ms"
            cells.append(f"{ours}, {shown(ratio(taken['loop'], taken['stack']))}")
        rows.append(cells)
    return {
        "title": "A stack of 100 Gramians in milliseconds, and the time of 100 calls over it",
        "columns": ["", "min-norm point", "dual cone (UPGrad)"],
        "rows": rows,
        "note": f"As for a combination layer by layer. Both ways the weights agree within {apart:.0e}.",
    }


def certificates_table() -> dict:
    """How far the answers are from the optimality conditions, and TorchJD's norm from the least."""
    rows = []
    for m in SIZES:
        gramian = block_gramian(rows_of(m, 4 * m))
        found = min_norm(gramian)
        cone = dual_cone(gramian, torch.eye(m, dtype=torch.float64) / m)
        least = float(found.value @ gramian @ found.value)
        residuals = [f"{one.residual:.1e}" for one in (found, cone, averse(gramian, 0.5))]
        rows.append([f"m = {m}", *residuals, excess(gramian, found.value, least)])
    return {
        "title": "Certificates",
        "columns": ["", "min-norm", "dual cone (UPGrad)", "CAGrad", "TorchJD's squared norm over the least"],
        "rows": rows,
        "note": "Largest violation of the Karush-Kuhn-Tucker conditions on unit rows, relative to the "
        "answer; for CAGrad the duality gap in multiples of the mean direction. The least squared norm is "
        "within the duality gap of the optimum: 1e-9 of it at most, checked here.",
    }


def excess(gramian: Tensor, weights: Tensor, least: float) -> str:
    """TorchJD's squared norm over ours, after ours is shown to be within 1e-9 of the optimum."""
    gap = least - float((gramian @ weights).min())  # |d|^2 - min_i g_i'd bounds |d|^2 - |d*|^2
    if gap > 1e-9 * least:
        raise AssertionError(f"the min-norm point is {gap / least:.1e} above the bound")
    if not PEERS:
        return "not installed"
    import torchjd.aggregation as peers

    theirs = peers.MGDAWeighting()(gramian.float()).double()
    return f"{float(theirs @ gramian @ theirs) / least:.3f}"


def main() -> None:
    """Measure, record, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--turns", type=int, default=15, help="turns for each figure; a third of it at m = 128"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    tables: list[Callable[[], dict]] = [
        lambda: times_table(options.turns),
        lambda: config_table(options.turns),
        lambda: programs_table(options.turns),
        lambda: stacks_table(options.turns),
        certificates_table,
    ]
    print(record("solvers", {"about": about(), "tables": [make() for make in tables]}))


if __name__ == "__main__":
    main()
