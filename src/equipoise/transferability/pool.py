"""Pool: many models by name, whose samples are loaded one at a time."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

from equipoise.core.errors import unknown
from equipoise.transferability.featurefile import ENDINGS, read_facts, read_features
from equipoise.transferability.sample import Sample

UNNAMED = "the model"
FACTS = ("parameters", "source accuracy")
"""Numbers of a file that are static columns where nobody says: more of them is known to be better."""


class Pool(Mapping[str, Sample]):
    """Samples of one target under many models, by the models' names; each is loaded anew when asked for.

    samples: a Sample, or a function without arguments that gives one, by name. `static` holds what is known
    of models without a look at the target: column -> model -> number, higher is better, such as parameters or
    source accuracy. A pool of forty models never has more than one in memory, unless they are given so.

    >>> pool = Pool({"a": lambda: Sample([[0.0], [1.0]], [0, 1])}, static={"parameters": {"a": 9.0}})
    >>> list(pool), pool["a"].name
    (['a'], 'a')
    """

    def __init__(
        self,
        samples: Mapping[str, Sample | Callable[[], Sample]],
        static: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        if not samples:
            raise ValueError("the pool holds no models")
        self._samples = dict(samples)
        self.static = {name: dict(column) for name, column in (static or {}).items()}

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        labels: Any = None,
        *,
        facts: Iterable[str] = FACTS,
        numbers: bool = False,
    ) -> "Pool":
        """The models of a folder, one file each, named as the files: NAME.npz or NAME.safetensors.

        A file holds `features` (N, D), `labels` and, for a classifier, `probabilities` (N, Z). `facts` names
        the single numbers beside them that are static columns, higher is better; others are not looked at.
        `labels` stand in for those of the files; `numbers` says that labels are no classes, whatever their
        type (`Sample`). Raises FileNotFoundError and ValueError, naming what is missing or given twice.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
        files = sorted(p for p in folder.iterdir() if p.suffix in ENDINGS and not p.name.startswith("."))
        if not files:
            raise ValueError(f"{folder} holds no features: files NAME.npz or NAME.safetensors, one a model")
        names = [path.stem for path in files]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{folder}: {twice[0]} lies there as .npz and as .safetensors; keep one")
        return from_files(files, labels, facts, numbers=numbers)

    def __getitem__(self, name: str) -> Sample:
        found = self._samples[name]
        return called(found if isinstance(found, Sample) else found(), name)

    def of(self, names: Iterable[str]) -> "Pool":
        """The pool of some of its models, in the order of the names."""
        kept = list(names)
        if absent := [name for name in kept if name not in self._samples]:
            raise ValueError(unknown("model", absent[0], self._samples))
        static = {fact: {n: column[n] for n in kept if n in column} for fact, column in self.static.items()}
        return Pool(
            {n: self._samples[n] for n in kept}, {f: column for f, column in static.items() if column}
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._samples)

    def __len__(self) -> int:
        return len(self._samples)

    def __repr__(self) -> str:
        return f"Pool({len(self)} models)"


def from_files(
    files: Iterable[Path],
    labels: Any = None,
    facts: Iterable[str] = FACTS,
    owner: Any = None,
    *,
    numbers: bool = False,
) -> Pool:
    """The pool of these files, named as they are; `owner` lives as long as any pool that reads them."""
    static: dict[str, dict[str, float]] = {}
    wanted = tuple(facts)
    samples: dict[str, Callable[[], Sample]] = {}
    for path in files:
        samples[path.stem] = partial(_read, path, labels, numbers, owner)
        held = read_facts(path)
        for fact in wanted:
            if fact in held:
                static.setdefault(fact, {})[path.stem] = held[fact]
    return Pool(samples, static)


def _read(path: Path, labels: Any, numbers: bool, owner: Any) -> Sample:
    """The sample of a file; `owner` is held by whoever may call this."""
    return read_features(path, labels, numbers=numbers)


def check_finite(what: str, numbers: Mapping[str, float]) -> None:
    """Raise ValueError where a number of a model is NaN or infinite."""
    for name, value in numbers.items():
        if not isfinite(value):
            raise ValueError(f"{what}: the number of {name} is {value}; give finite ones, or leave it out")


def called(sample: Sample, name: str) -> Sample:
    """A sample that bears the model's name, unless it has one; what it computes is not kept in the first."""
    named = copy(sample)
    if named.name == UNNAMED:
        named.name = name
    return named
