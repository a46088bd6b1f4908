"""The table of cases in which TorchJD is wrong: `python -m tests.external.table`."""

from tests.external.faults import FAULTS, Fault
from torch import Tensor

COLUMNS = ("case", "what", "explicit", "TorchJD", "off by", "Equipoise", "off by", "why")


def row(fault: Fault) -> tuple[str, ...]:
    """The cells of one case."""
    return (
        fault.title,
        fault.shown,
        written(fault.explicit),
        written(fault.theirs),
        share(fault.off(fault.theirs)),
        written(fault.ours),
        share(fault.off(fault.ours)),
        fault.why,
    )


def written(answer: Tensor | str) -> str:
    """A vector as its first numbers, a Gramian as its first row, an error as it is."""
    if isinstance(answer, str):
        return f"raises {answer}"
    numbers = answer.double().reshape(-1, answer.shape[-1])[0] if answer.dim() else answer.double()[None]
    text = ", ".join(f"{number + 0.0:.4g}" for number in numbers[:2].tolist())
    return f"({text}{', ...' if answer.numel() > 2 else ''})" if answer.dim() else text


def share(off: float) -> str:
    return "-" if off == float("inf") else f"{off:.1g}"


def table() -> str:
    """All cases, in Markdown."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(row(make()) for make in FAULTS.values())]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


if __name__ == "__main__":
    print(table())
