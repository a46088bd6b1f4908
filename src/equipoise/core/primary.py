"""The one objective that comes before the others, where a rule has such a one."""

from collections.abc import Sequence

from equipoise.core.errors import unknown


def primary_place(primary: str | None, names: Sequence[str]) -> int:
    """Where the primary objective stands among `names`; None is the first.

    Raises ValueError for a name that is not among them, with its nearest neighbours.

    >>> primary_place("new", ["old", "new"])
    1
    """
    if primary is None:
        return 0
    if primary not in names:
        raise ValueError(f"the primary objective: {unknown('objective', primary, names)}")
    return list(names).index(primary)
