"""The methods of mergekit 0.1.5 under this project's names, with their parameters and defaults there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal


@dataclass(frozen=True)
class PeerMethod:
    """A method of mergekit: that of this project which does the same, and the parameters of both.

    `single` may differ from model to model, `shared` may not: each a name there with the name here, None
    where it has no effect here. `defaults` are those of mergekit. `base`: "model" where it counts as one,
    "first" where it is the first of them, "needed" or "optional" where it stands beside them. `count`: the
    least and the greatest number of models, the base apart. `alone`: one model, whose parameters are the
    method's. `convert` changes parameters that have no counterpart one by one.
    """

    method: str
    base: Literal["model", "first", "needed", "optional"]
    single: Mapping[str, str | None] = field(default_factory=dict)
    shared: Mapping[str, str | None] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    required_single: tuple[str, ...] = ()
    count: tuple[int, int | None] = (1, None)
    alone: bool = False
    fixed: Mapping[str, Any] = field(default_factory=dict)
    convert: Callable[[dict[str, Any], str], dict[str, Any]] | None = None


def mapped(setting: Any, change: Callable[[Any], Any]) -> Any:
    """A setting of mergekit with each of its values changed: alone, along a gradient or behind filters."""
    if isinstance(setting, list):
        return [mapped(one, change) for one in setting]
    if isinstance(setting, Mapping):
        return {key: mapped(one, change) if key == "value" else one for key, one in setting.items()}
    return change(setting)


def _switch(option: str, about: str, yes: str, no: str) -> Callable[[Any], str]:
    """Turns true and false into words."""

    def change(value: Any) -> str:
        if not isinstance(value, bool):
            raise ValueError(f"{about}.{option} is true or false, not {value!r}")
        return yes if value else no

    return change


def _reduce(found: dict[str, Any], about: str) -> dict[str, Any]:
    """What TIES does with those that agree: their mean, or their sum where it is not normalised."""
    if "normalize" in found:
        found["reduce"] = mapped(found.pop("normalize"), _switch("normalize", about, "mean", "sum"))
    return found


def _vectors(found: dict[str, Any], about: str) -> dict[str, Any]:
    """What nuslerp takes as a vector: the tensor, unless flattening is switched off, then rows or columns."""
    told = {key: found.pop(f"nuslerp_{key}", None) for key in ("flatten", "row_wise")}
    for key, value in told.items():
        if value is not None and not isinstance(value, bool):
            raise ValueError(f"{about}.nuslerp_{key} is true or false, not {value!r}")
    if told["flatten"] is False:
        found["vectors"] = "columns" if told["row_wise"] else "rows"
    elif told["flatten"]:
        found["vectors"] = "tensor"
    return found


_WEIGHT: dict[str, Any] = {"single": {"weight": "weight"}, "required_single": ("weight",)}

_TASKS = PeerMethod(
    "TaskArithmetic",
    "needed",
    single={"weight": "weight", "density": None},
    shared={"normalize": "normalize", "lambda": "scale", "int8_mask": None, "rescale": None},
    defaults={"normalize": False, "scale": 1.0},
    required_single=("weight",),
)
_SPARSE = replace(
    _TASKS,
    single={"weight": "weight", "density": "density"},
)

_DARE = replace(_SPARSE, method="DARE", fixed={"rescale": True})
_DELLA = replace(_DARE, method="DELLA", single={**_SPARSE.single, "epsilon": "epsilon"})
_CRUMBS = replace(
    _SPARSE,
    method="Breadcrumbs",
    single={**_SPARSE.single, "gamma": "gamma"},
    fixed={"rescale": False},
)
_L1 = {"density": 1.0, "scale": 1.0, "rescale": "l1"}
_KEPT = {"density": 1.0, "scale": 1.0, "gamma": 0.01, "normalize": False}

METHODS: Mapping[str, PeerMethod] = {
    "linear": PeerMethod(
        "Average", "model", **_WEIGHT, shared={"normalize": "normalize"}, defaults={"normalize": True}
    ),
    "slerp": PeerMethod("Slerp", "first", shared={"t": "t"}, required=("t",), count=(2, 2)),
    "nuslerp": PeerMethod(
        "NuSlerp",
        "optional",
        **_WEIGHT,
        shared={"nuslerp_flatten": "vectors", "nuslerp_row_wise": "vectors"},
        count=(2, 2),
        convert=_vectors,
    ),
    "multislerp": PeerMethod("MultiSlerp", "optional", **_WEIGHT, shared={"normalize_weights": "normalize"}),
    "karcher": PeerMethod("Karcher", "model", shared={"max_iter": "max_iter", "tol": "tol"}),
    "passthrough": PeerMethod("Passthrough", "model", shared={"scale": "scale"}, count=(1, 1), alone=True),
    "model_stock": PeerMethod(
        "ModelStock",
        "needed",
        shared={"filter_wise": "filter_wise"},
        count=(2, None),
        defaults={"clamp": False},
    ),
    "task_arithmetic": _TASKS,
    "ties": replace(
        _SPARSE,
        method="TIES",
        shared={**_TASKS.shared, "normalize": "reduce"},
        defaults={"preset": "mergekit", "scale": 1.0, "density": 1.0},
        fixed={"rescale": False},
        convert=_reduce,
    ),
    "dare_linear": replace(_DARE, defaults={**_L1, "votes": False, "normalize": False}),
    "dare_ties": replace(_DARE, defaults={**_L1, "votes": True, "normalize": False}),
    "della": replace(_DELLA, defaults={**_L1, "epsilon": 0.15, "votes": True, "normalize": True}),
    "della_linear": replace(_DELLA, defaults={**_L1, "epsilon": 0.15, "votes": False, "normalize": False}),
    "breadcrumbs": replace(_CRUMBS, defaults={**_KEPT, "votes": False}),
    "breadcrumbs_ties": replace(_CRUMBS, defaults={**_KEPT, "votes": True}),
    "sce": PeerMethod("SCE", "needed", shared={"select_topk": "select_topk", "int8_mask": None}),
    "nearswap": PeerMethod("NearSwap", "needed", shared={"t": "t"}, required=("t",), count=(1, 1)),
    "arcee_fusion": PeerMethod("ArceeFusion", "needed", count=(1, 1)),
}
"""Name in mergekit -> its counterpart."""

ABSENT = ("ram", "ramplus_tl")
"""Methods of mergekit that have no counterpart here."""
