"""What users of other libraries look for, and what it is called here: every name has an answer.

TorchJD 0.18 (all public names), LibMTL (git of May 2025: weightings, and what its trainer treats apart) and
LibMOON (git of March 2025: scalarisations and solvers).
"""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import pytest

from equipoise.core.card import cards

ROOMS = ("aggregation", "scalarization", "pareto")


@dataclass(frozen=True)
class Absent:
    """A peer's name that has no counterpart here, and why."""

    reason: str


BASE = Absent("a base class; here GramianRule, RowRule and Scalarizer")
BAYESIAN = Absent("Bayesian optimisation of expensive black boxes, without gradients")
BILEVEL = Absent("bilevel: the upper level needs data of its own and gradients through a training step")
EVOLUTIONARY = Absent("evolutionary search, made for problems without gradients")

TORCHJD: dict[str, str | tuple[str, ...] | Absent] = {
    "aggregation.Aggregator": BASE,
    "aggregation.GramianWeightedAggregator": BASE,
    "aggregation.WeightedAggregator": BASE,
    "aggregation.Weighting": BASE,
    "aggregation.AlignedMTL": "AlignedMTL",
    "aggregation.AlignedMTLWeighting": "AlignedMTL",
    "aggregation.CAGrad": "CAGrad",
    "aggregation.CAGradWeighting": "CAGrad",
    "aggregation.ConFIG": "ConFIG",
    "aggregation.Constant": "WeightedSum",
    "aggregation.ConstantWeighting": "WeightedSum",
    "aggregation.CRMOGMWeighting": "CRMOGM",
    "aggregation.DualProj": "DualProj",
    "aggregation.DualProjWeighting": "DualProj",
    "aggregation.ExcessMTL": "ExcessMTL",
    "aggregation.ExcessMTLWeighting": "ExcessMTL",
    "aggregation.FairGrad": "FairGrad",
    "aggregation.FairGradWeighting": "FairGrad",
    "aggregation.GradDrop": "GradDrop",
    "aggregation.GradVac": "GradVac",
    "aggregation.GradVacWeighting": "GradVac",
    "aggregation.IMTLG": "IMTLG",
    "aggregation.IMTLGWeighting": "IMTLG",
    "aggregation.Krum": ("Krum", "MultiKrum"),
    "aggregation.KrumWeighting": ("Krum", "MultiKrum"),
    "aggregation.Mean": "Mean",
    "aggregation.MeanWeighting": "Mean",
    "aggregation.MGDA": "MGDA",
    "aggregation.MGDAWeighting": "MGDA",
    "aggregation.MoDoWeighting": "MoDo",
    "aggregation.NashMTL": "NashMTL",
    "aggregation.PCD": "PCD",
    "aggregation.PCDWeighting": "PCD",
    "aggregation.PCGrad": "PCGrad",
    "aggregation.PCGradWeighting": "PCGrad",
    "aggregation.Random": "RLW",
    "aggregation.RandomWeighting": "RLW",
    "aggregation.SDMGradWeighting": "SDMGrad",
    "aggregation.Sum": "Sum",
    "aggregation.SumWeighting": "Sum",
    "aggregation.TrimmedMean": "TrimmedMean",
    "aggregation.UPGrad": "UPGrad",
    "aggregation.UPGradWeighting": "UPGrad",
    "scalarization.Scalarizer": BASE,
    "scalarization.Constant": "WeightedSum",
    "scalarization.COSMOS": "COSMOS",
    "scalarization.DWA": "DWA",
    "scalarization.FAMO": "FAMO",
    "scalarization.GeometricMean": "GLS",
    "scalarization.IMTLL": "IMTLL",
    "scalarization.Mean": "Linear",
    "scalarization.PBI": "PBI",
    "scalarization.Random": "RLW",
    "scalarization.STCH": "SmoothTchebycheff",
    "scalarization.Sum": "WeightedSum",
    "scalarization.UW": "UncertaintyWeighting",
}

LIBMTL: dict[str, str | tuple[str, ...] | Absent] = {
    "AbsWeighting": BASE,
    "Aligned_MTL": "AlignedMTL",
    "CAGrad": "CAGrad",
    "DB_MTL": "DBMTL",
    "DWA": "DWA",
    "EW": ("Sum", "WeightedSum"),
    "ExcessMTL": "ExcessMTL",
    "FAMO": "FAMO",
    "FairGrad": "FairGrad",
    "GLS": "GLS",
    "GradDrop": "GradDrop",
    "GradNorm": "GradNorm",
    "GradVac": "GradVac",
    "IMTL": ("IMTLG", "IMTLL"),
    "MGDA": "MGDA",
    "MoCo": "MoCo",
    "MoDo": "MoDo",
    "Nash_MTL": "NashMTL",
    "PCGrad": "PCGrad",
    "RLW": "RLW",
    "SDMGrad": "SDMGrad",
    "STCH": "SmoothTchebycheff",  # theirs takes logarithms of losses relative to a warm-up
    "UPGrad": "UPGrad",
    "UW": "UncertaintyWeighting",
    "MOML": BILEVEL,
    "FORUM": BILEVEL,
    "AutoLambda": BILEVEL,
}

LIBMOON: dict[str, str | tuple[str, ...] | Absent] = {
    "ls": "Linear",
    "tche": "Tchebycheff",  # theirs gives tensors the worst objective without its weight
    "mtche": "ASF",
    "softtche": "SmoothTchebycheff",
    "softmtche": "ASF",  # with a temperature
    "pbi": "PBI",
    "cosmos": "COSMOS",
    "invagg": Absent(
        "a product of gains below a nadir point that must be known beforehand, of no stated source"
    ),
    "GradAggSolver": "Linear",  # and any other scalarisation
    "MGDAUBSolver": "MGDA",
    "RandomSolver": "RLW",
    "EPOSolver": "EPO",
    "PMTLSolver": "ParetoMTL",
    "PMGDASolver": "PMGDA",
    "MOOSVGDSolver": "MOOSVGD",
    "GradHVSolver": "HypervolumeGradient",
    "UMODSolver": Absent("moves the preferences by a learned model of the front; here they are given"),
    "hypernetwork": "ParetoHyperNetwork",
    "LoRA-PSL": "LowRankFront",
    "PSL-MOBO": BAYESIAN,
    "PSL-DirHV-EI": BAYESIAN,
    "DirHV-EGO": BAYESIAN,
    "MOEA/D": EVOLUTIONARY,
    "MOEA/D-PFL": EVOLUTIONARY,
}

PEERS = {"TorchJD": TORCHJD, "LibMTL": LIBMTL, "LibMOON": LIBMOON}


@cache
def ours() -> frozenset[str]:
    return frozenset(name for room in ROOMS for name in cards(room))


CASES = [
    pytest.param(answer, id=f"{peer}-{name}")
    for peer, table in PEERS.items()
    for name, answer in table.items()
]


@pytest.mark.parametrize("answer", CASES)
def test_a_name_of_a_peer_leads_to_a_card_or_to_a_reason(answer):
    match answer:
        case Absent(reason=reason):
            assert len(reason.split()) > 3
        case str() as name:
            assert name in ours()
        case tuple() as names:
            assert set(names) <= ours()


@pytest.mark.skipif(find_spec("torchjd") is None, reason="TorchJD is not installed; the extra `peers` has it")
def test_every_public_name_of_torchjd_is_in_the_table():
    found = {
        f"{room}.{name}"
        for room in ("aggregation", "scalarization")
        for name in import_module(f"torchjd.{room}").__all__
    }
    assert found - set(TORCHJD) == set()
