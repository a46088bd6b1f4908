"""Conditioned: a model for every preference, as tensors that a preference gives."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.core.errors import unknown
from equipoise.core.objectives import Preference, simplex_preference
from equipoise.core.tensorfile import TensorFile, write_tensors

FORMAT = "equipoise.conditioned"
VERSION = "1"


class Conditioned(nn.Module, ABC):
    """The parameters of a model as a function of the preference, a point on the simplex of m objectives.

    `forward` gives the parameters by name, differentiable by what is learned; `at` the whole state of the
    model. names: m. base: the parameters to start from, by name; what the function is made of is up to
    the subclass, whose further arguments are `options()`.

    `keep` notes what does not depend on the preference: buffers, parameters that are not trained, and second
    names of a parameter.
    """

    kinds: ClassVar[dict[str, type["Conditioned"]]] = {}

    def __init_subclass__(cls) -> None:
        Conditioned.kinds[cls.__name__] = cls

    def __init__(self, names: Sequence[str], base: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.shapes = {name: tuple(tensor.shape) for name, tensor in base.items()}
        self._rest: dict[str, Tensor] = {}
        self._tied: dict[str, str] = {}

    @abstractmethod
    def forward(self, preference: Tensor) -> dict[str, Tensor]:  # (m,) -> by name
        """The model's trained parameters at a preference on the simplex."""

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor beyond `names` and `base`, in plain JSON values."""

    def keep(self, model: nn.Module) -> None:
        """Note the state of a model as far as it does not depend on the preference."""
        first = {id(tensor): name for name, tensor in model.named_parameters()}
        state = model.state_dict(keep_vars=True)
        self._tied = {n: first[id(t)] for n, t in state.items() if n not in self.shapes and id(t) in first}
        self._tied = {name: source for name, source in self._tied.items() if source in self.shapes}
        fixed = {n: t for n, t in state.items() if n not in self.shapes and n not in self._tied}
        self._rest = {name: tensor.detach().clone() for name, tensor in fixed.items()}

    @torch.no_grad()
    def at(self, preference: Preference = None) -> dict[str, Tensor]:
        """The state of the model at a preference (m numbers, or by name; uniform by default), to be loaded by
        `model.load_state_dict`. Buffers are the same at every preference: running statistics of batch
        normalisation are a mean over all that training drew, so renew them (`renewal.renew`) before use.
        Raises ValueError for a preference that does not fit."""
        wish = simplex_preference(preference, self.names)
        if wish is None:
            wish = torch.full((len(self.names),), 1 / len(self.names), dtype=torch.float64)
        found = {name: tensor.detach().clone() for name, tensor in self(wish).items()}
        tied = {name: found[source].clone() for name, source in self._tied.items()}
        return {**found, **tied, **{name: tensor.clone() for name, tensor in self._rest.items()}}

    def save(self, path: str | Path) -> None:
        """Write it to one safetensors file, atomically."""
        learned = {f"learned.{name}": tensor for name, tensor in self.state_dict().items()}
        rest = {f"rest.{name}": tensor for name, tensor in self._rest.items()}
        header = {
            "kind": type(self).__name__,
            "names": self.names,
            "shapes": self.shapes,
            "options": self.options(),
            "tied": self._tied,
        }
        metadata = {"format": FORMAT, "version": VERSION, "header": json.dumps(header, allow_nan=False)}
        write_tensors(Path(path), (learned | rest).items(), metadata)

    @staticmethod
    def load(path: str | Path) -> "Conditioned":
        """What `save` wrote. Raises ValueError where the file holds none, or one of an unknown kind."""
        file = TensorFile(path)
        if file.metadata.get("format") != FORMAT or file.metadata.get("version") != VERSION:
            raise ValueError(f"{path} holds no conditioned model (format {file.metadata.get('format')!r})")
        header = json.loads(file.metadata["header"])
        if header["kind"] not in Conditioned.kinds:
            raise ValueError(f"{path}: {unknown('conditioned model', header['kind'], Conditioned.kinds)}")
        base = {name: torch.zeros(shape) for name, shape in header["shapes"].items()}
        found = Conditioned.kinds[header["kind"]](header["names"], base, **header["options"])
        learned = {key: file[key].clone() for key in file if key.startswith("learned.")}
        found.load_state_dict({key.removeprefix("learned."): t for key, t in learned.items()}, assign=True)
        found._rest = {k.removeprefix("rest."): file[k].clone() for k in file if k.startswith("rest.")}
        found._tied = header["tied"]
        return found


class Ensemble(Conditioned):
    """theta(p) = sum_i p_i theta_i: m models at the corners of the simplex, their weighted means within.

    bases: m starts, instead of m copies of `base`.
    """

    def __init__(
        self,
        names: Sequence[str],
        base: Mapping[str, Tensor],
        *,
        bases: Sequence[Mapping[str, Tensor]] = (),
    ) -> None:
        super().__init__(names, base)
        starts = bases or [base] * len(self.names)
        self.members = nn.ParameterList(
            torch.stack([start[name].detach() for start in starts]) for name in self.shapes
        )

    def options(self) -> dict[str, Any]:
        return {}

    def forward(self, preference: Tensor) -> dict[str, Tensor]:
        pairs = zip(self.shapes, self.members, strict=True)
        return {name: torch.tensordot(preference.to(member), member, 1) for name, member in pairs}


class Hypernetwork(Conditioned):
    """theta(p) = base + W h(p): a network h of three layers reads the preference, and one linear layer for
    each tensor of the model gives it; `base` is where its biases start."""

    def __init__(self, names: Sequence[str], base: Mapping[str, Tensor], *, hidden: int = 100) -> None:
        super().__init__(names, base)
        self.hidden = hidden
        first = next(iter(base.values()))
        place = {"dtype": first.dtype, "device": first.device}
        sizes = (len(self.names), hidden, hidden, hidden)
        self.trunk = nn.ModuleList(nn.Linear(a, b, **place) for a, b in pairwise(sizes))
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for tensor in base.values():
            drawn = nn.Linear(hidden, max(tensor.numel(), 1)).weight.detach()
            self.weights.append(drawn[: tensor.numel()].to(tensor))
            self.biases.append(tensor.detach().reshape(-1).clone())

    def options(self) -> dict[str, Any]:
        return {"hidden": self.hidden}

    def forward(self, preference: Tensor) -> dict[str, Tensor]:
        features = preference.to(self.weights[0])
        for depth, layer in enumerate(self.trunk):
            features = layer(features.relu() if depth else features)
        parts = zip(self.shapes.items(), self.weights, self.biases, strict=True)
        return {n: functional.linear(features.to(w), w, b).reshape(shape) for (n, shape), w, b in parts}


class LowRank(Conditioned):
    """theta(p) = theta_0 + scale sum_i p_i B_i A_i: one model, and m low-rank updates of every matrix.

    A tensor of more than two dimensions is the matrix of its first by all others; a vector's update is a
    vector. B starts at zero, A at random, so that the start is `base` for every preference.
    """

    def __init__(
        self, names: Sequence[str], base: Mapping[str, Tensor], *, rank: int = 8, scale: float = 1.0
    ) -> None:
        super().__init__(names, base)
        self.rank, self.scale = rank, scale
        self.main = nn.ParameterList(tensor.detach().clone() for tensor in base.values())
        self.left, self.right = nn.ParameterList(), nn.ParameterList()
        m = len(self.names)
        for tensor in base.values():
            rows, columns = _matrix(tensor.shape)
            inner = min(rank, rows, columns)
            self.left.append(tensor.new_zeros(m, rows, inner))
            right = torch.randn(m, inner, columns) / max(columns, 1) ** 0.5
            vector = columns == 1
            self.right.append(nn.Parameter((right.fill_(1.0) if vector else right).to(tensor)))
            self.right[-1].requires_grad_(not vector)

    def options(self) -> dict[str, Any]:
        return {"rank": self.rank, "scale": self.scale}

    def forward(self, preference: Tensor) -> dict[str, Tensor]:
        found = {}
        parts = zip(self.shapes.items(), self.main, self.left, self.right, strict=True)
        for (name, shape), main, left, right in parts:
            weighted = (preference.to(left)[:, None, None] * left).transpose(0, 1).flatten(1)
            found[name] = main + self.scale * (weighted @ right.flatten(0, 1)).reshape(shape)
        return found

    def freeze(self) -> None:
        """Train the updates alone from now on."""
        self.main.requires_grad_(False)

    def overlap(self, chosen: Sequence[int] | None = None) -> Tensor:
        """How far the updates of different objectives point the same way: the sum of cos(u, v)^2 |u| |v| over
        all matrices and ordered pairs of the objectives chosen, by default all."""
        some = list(range(len(self.names)) if chosen is None else chosen)
        total = torch.zeros(())
        for left, right in zip(self.left, self.right, strict=True):
            update = left[some] @ right[some]  # (chosen, rows, columns)
            gramian = update.flatten(1) @ update.flatten(1).T
            squares = gramian.diagonal()
            if min(update.shape[1:]) > 1 and bool((squares > torch.finfo(squares.dtype).tiny).all()):
                lengths = squares.sqrt()
                total = total + 2 * (gramian.square() / lengths[:, None] / lengths).triu(1).sum()
        return total


def trained(model: nn.Module) -> dict[str, Tensor]:
    """The parameters of a model that are trained, by name. Raises ValueError where there is none."""
    found: dict[str, Tensor] = {n: t for n, t in model.named_parameters() if t.requires_grad}
    if not found:
        raise ValueError("the model has no parameter that requires a gradient")
    return found


def _matrix(shape: Sequence[int]) -> tuple[int, int]:
    """The sizes of a tensor as a matrix: its first dimension by all others; a vector is one column."""
    if not shape:
        return 1, 1
    size = 1
    for length in shape[1:]:
        size *= length
    return shape[0], size
