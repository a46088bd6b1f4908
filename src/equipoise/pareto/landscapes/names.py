"""Analytic landscapes by name."""

from typing import Any

from equipoise.core.errors import unknown
from equipoise.pareto.landscapes import dtlz, maf, re, vlmop, zdt
from equipoise.pareto.landscapes.analytic import Analytic

KINDS: dict[str, type[Analytic]] = {
    kind.__name__.lower(): kind
    for kind in (
        *(dtlz.DTLZ1, dtlz.DTLZ2, dtlz.DTLZ3, dtlz.DTLZ4, dtlz.DTLZ5, dtlz.DTLZ6, dtlz.DTLZ7),
        maf.MAF1,
        *(re.RE21, re.RE24, re.RE31, re.RE32, re.RE33, re.RE34, re.RE37, re.RE41, re.RE61),
        vlmop.VLMOP2,
        *(zdt.ZDT1, zdt.ZDT2, zdt.ZDT3, zdt.ZDT4, zdt.ZDT6),
    )
}


def named(name: str, **options: Any) -> Analytic:
    """An analytic landscape by its name in any case; options are those of its class (d, m, k).

    Raises ValueError for an unknown name, with its nearest neighbours.

    >>> named("ZDT1", d=5).names
    ('f1', 'f2')
    """
    kind = KINDS.get(name.lower())
    if kind is None:
        raise ValueError(unknown("analytic landscape", name, KINDS))
    return kind(**options)
