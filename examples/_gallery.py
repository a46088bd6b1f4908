"""What the examples share: a figure in the project's colours, and how a run ends."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from equipoise.core.atomic import write, writing
from equipoise.core.palette import FAINT, INK, LEADER, MUTED, PAPER, SERIES

matplotlib.rcParams.update(
    {
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.prop_cycle": matplotlib.cycler(color=SERIES),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 11,
        "figure.facecolor": PAPER,
        "font.size": 10,
        "legend.frameon": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "equipoise",
        "text.color": INK,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
    }
)


def figure(
    columns: int = 1, *, width: float = 7.5, height: float = 3.6, **options: Any
) -> tuple[Figure, list[Axes]]:
    """An empty figure, inches wide and high, with so many plots side by side."""
    drawn = Figure(figsize=(width, height), layout="constrained")
    axes = drawn.subplots(1, columns, squeeze=False, **options)
    return drawn, list(axes[0])


def dots(plot: Axes, found: Mapping[str, Sequence[float]], best: str) -> None:
    """A line for each name: its seeds as dots, their mean as a bar; `best` in the leader's colour."""
    for place, (name, values) in enumerate(found.items()):
        colour = LEADER if name == best else MUTED
        plot.plot(values, [place] * len(values), "o", alpha=0.5, color=colour)
        plot.plot(mean(values), place, "|", markersize=18, color=colour)
    plot.set_yticks(range(len(found)), list(found))
    plot.invert_yaxis()


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean and standard deviation over seeds."""
    return f"{mean(values):.{digits}f} ± {stdev(values) if len(values) > 1 else 0:.{digits}f}"


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that all examples have; an example adds its own."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--out", type=Path, default=Path("runs/examples"), help="the folder of the picture")
    return options


def finish(out: Path, name: str, drawn: Figure, sentence: str) -> None:
    """Write NAME.svg and the sentence, NAME.txt, into a folder, and print both."""
    sentence = sentence[:1].upper() + sentence[1:]
    out.mkdir(parents=True, exist_ok=True)
    picture = out / f"{name}.svg"
    with writing(picture) as file:
        drawn.savefig(file, format="svg", metadata={"Date": None})
    write(out / f"{name}.txt", f"{sentence}\n")
    print(f"\n{sentence}\n{picture}")
