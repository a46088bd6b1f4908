"""The YAML of mergekit 0.1.5 as a specification of this project, so that nobody has to rewrite it.

Read are `merge_method`, `models` or `slices` with `layer_range`, `base_model`, `parameters` at all four
levels with gradients over the layers and filters by name, `dtype` and `out_dtype`, and `tokenizer_source`
where all tokenizers are the same. Any other key is an error that names it.

As there, the base of `linear` and `karcher` counts as a model, and that of the methods on task vectors does
not, whether it stands among the models or not. Three things differ: the arithmetic is float32 (float64 where
`dtype` is), whatever `dtype` the result is written in; a parameter that the method does not have is refused,
where mergekit goes on without it; a required weight that no filter gives is 1.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from equipoise.core.errors import unknown
from equipoise.core.tensorfile import named
from equipoise.merging.peermethods import ABSENT, METHODS, PeerMethod
from equipoise.merging.settings import is_choice
from equipoise.merging.specification import BASE

TOP = (
    *("merge_method", "models", "slices", "base_model", "parameters", "dtype", "out_dtype"),
    *("tokenizer_source", "tokenizer", "chat_template", "modules"),
)
DTYPES = ("float16", "bfloat16", "float32", "float64")


def translated(given: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a file of mergekit as that of one of this project.

    Raises ValueError naming the key that is unknown, not supported or missing.
    """
    _only(given, TOP, "")
    name = given["merge_method"]
    if name in ABSENT or name not in METHODS:
        told = unknown("merge_method", str(name), METHODS) if name not in ABSENT else f"merge_method {name!r}"
        raise ValueError(f"{told}{'; mergekit has it, this project has not' if name in ABSENT else ''}")
    for key, remedy in (
        ("modules", "name the models or slices of the whole model"),
        ("chat_template", "put the template into the tokenizer of the merged model"),
    ):
        if given.get(key) is not None:
            raise ValueError(f"{key} is not supported; {remedy}")
    if (given.get("models") is None) == (given.get("slices") is None):
        raise ValueError("exactly one of models and slices must be given")
    found: dict[str, Any] = {"method": METHODS[name].method}
    found |= _numbers(given)
    if _tokenizer(given):
        found["same_tokenizer"] = True
    method, base = METHODS[name], given.get("base_model")
    base = None if base is None else _path(base, "base_model")
    if base is None and method.base in ("needed", "first"):
        raise ValueError(f"base_model is missing; {name} needs it")
    shared = _parameters(given.get("parameters"), method, "parameters", one=False)
    shared = {key: _else(value, method.defaults.get(key)) for key, value in shared.items()}
    found["options"] = {**method.defaults, **shared}
    build = _Models if given.get("models") is not None else _Slices
    return {**found, **build(name, method, base, shared).read(given)}


class _Reader:
    """What reading models and slices have in common."""

    def __init__(self, name: str, method: PeerMethod, base: str | None, shared: Mapping[str, Any]) -> None:
        self.name, self.method, self.base, self.shared = name, method, base, shared
        self.apart = base is not None and method.base in ("needed", "optional")
        """Whether the base stands beside the models, and is none of them."""

    def ordered(self, sources: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
        """Sources without the base, or with the base first; refused where there are too few or too many."""
        paths = [source["path"] for source in sources]
        if again := [path for path in dict.fromkeys(paths) if paths.count(path) > 1]:
            raise ValueError(f"{key}: the model {again[0]} is named twice")
        if self.apart:
            sources = [source for source in sources if source["path"] != self.base]
        elif self.method.base == "first":
            sources = sorted(sources, key=lambda source: source["path"] != self.base)
            if not sources or sources[0]["path"] != self.base:
                raise ValueError(f"{key}: base_model {self.base} is not among them, and {self.name} needs it")
        least, most = self.method.count
        if len(sources) < least or (most is not None and len(sources) > most):
            wanted = (
                f"{least}" if most == least else f"{least} or more" if most is None else f"at most {most}"
            )
            beside = " beside the base" if self.apart else ""
            raise ValueError(f"{key}: {self.name} takes {wanted} models{beside}, not {len(sources)}")
        for source in sources:
            for option in self.method.required_single:
                if not any(option in known for known in (source["options"], source["slice"], self.shared)):
                    raise ValueError(f"{key}: {source['path']}: parameters.{option} is missing")
        for option in self.method.required:
            if not all(option in self.shared or option in source["slice"] for source in sources):
                raise ValueError(f"parameters.{option} is missing; {self.name} needs it")
        return sources

    def source(
        self, given: Any, keys: tuple[str, ...], about: str, piece: Mapping[str, Any]
    ) -> dict[str, Any]:
        """One model of a list, or one source of a slice."""
        if not isinstance(given, Mapping) or given.get("model") is None:
            raise ValueError(f"{about}: model is missing")
        _only(given, keys, about)
        path = _path(given["model"], f"{about}.model")
        own = _parameters(
            given.get("parameters"), self.method, f"{about}.parameters", one=not self.method.alone
        )
        return {"path": path, "options": own, "slice": piece}

    def entry(self, names: Mapping[str, str]) -> dict[str, Any]:
        """Models by name, and the base where it stands apart."""
        models = {"models": {name: {"path": path} for path, name in names.items()}}
        return models | ({"base": self.base} if self.apart else {})


class _Models(_Reader):
    """A list of models."""

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        listed = _listed(given["models"], "models")
        sources = [
            self.source(model, ("model", "parameters"), f"models[{i}]", {}) for i, model in enumerate(listed)
        ]
        if self.base is not None and self.base not in [source["path"] for source in sources]:
            sources.append({"path": self.base, "options": {}, "slice": {}})
        sources = self.ordered(sources, "models")
        names = _names(source["path"] for source in sources)
        found = self.entry(names)
        for source in sources:
            if self.method.alone:
                found["options"] = {**self.method.defaults, **self.shared, **source["options"]}
            elif source["options"]:
                found["models"][names[source["path"]]]["options"] = source["options"]
        return found


class _Slices(_Reader):
    """Slices of layers."""

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        pieces = [self.piece(piece, i) for i, piece in enumerate(_listed(given["slices"], "slices"))]
        names = _names(source["path"] for sources, _ in pieces for source in sources)
        found = self.entry(names)
        found["slices"] = []
        for sources, options in pieces:
            told = []
            for source in sources:
                if self.method.alone:
                    options = {**options, **source.pop("options"), "model": names[source["path"]]}
                told.append(
                    {
                        "model": names[source["path"]],
                        "layers": source["layers"],
                        "options": source.get("options", {}),
                    }
                )
            if self.apart:
                told.append({"model": BASE, "layers": sources[0]["base layers"]})
            found["slices"].append({"sources": told, "options": options})
        return found

    def piece(self, given: Any, number: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The sources of one slice, and its options."""
        about = f"slices[{number}]"
        if not isinstance(given, Mapping) or "sources" not in given:
            raise ValueError(f"{about}: sources is missing")
        _only(given, ("sources", "base_model", "residual_weight", "parameters"), about)
        if given.get("residual_weight") is not None:
            raise ValueError(f"{about}.residual_weight is not supported")
        own = given.get("base_model")
        if own is not None and _path(own, f"{about}.base_model") != self.base:
            raise ValueError(
                f"{about}.base_model is not supported where it differs from the base_model of all"
            )
        options = _parameters(given.get("parameters"), self.method, f"{about}.parameters", one=False)
        sources, layers = [], {}
        for i, source in enumerate(_listed(given["sources"], f"{about}.sources")):
            at = f"{about}.sources[{i}]"
            found = self.source(source, ("model", "layer_range", "parameters"), at, options)
            span = source.get("layer_range")
            if not isinstance(span, list) or len(span) != 2 or not all(isinstance(n, int) for n in span):
                raise ValueError(f"{at}.layer_range is two whole numbers, not {span!r}")
            found["layers"] = layers[found["path"]] = span
            sources.append(found)
        ordered = self.ordered(sources, f"{about}.sources")
        if self.apart:
            if self.base not in layers:
                raise ValueError(f"{about}.sources: base_model {self.base} is not among them")
            ordered[0]["base layers"] = layers[self.base]
        return ordered, options


def _parameters(given: Any, method: PeerMethod, about: str, *, one: bool) -> dict[str, Any]:
    """Parameters under this project's names; `one`: those of one model."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ValueError(f"{about} is a mapping, not {given!r}")
    known = method.single if one else {**method.single, **method.shared}
    found: dict[str, Any] = {}
    for key, value in given.items():
        if one and key in method.shared:
            raise ValueError(f"{about}.{key} is one for all models; set it in parameters of the whole merge")
        if key not in known:
            raise ValueError(f"{about}: {unknown('parameter', str(key), known)}")
        if key in method.fixed and value != method.fixed[key]:
            raise ValueError(f"{about}.{key} is not supported but as {method.fixed[key]!r}")
        if known[key] is not None and value is not None:
            found[key] = value
    if method.convert is not None:
        found = method.convert(found, about)
    return {known.get(key) or key: _setting(value, f"{about}.{key}") for key, value in found.items()}


def _setting(value: Any, about: str) -> Any:
    """A scalar, a gradient or filters in this project's form."""
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        return value
    if not value:
        raise ValueError(f"{about} is an empty list; leave it out")
    if not any(isinstance(case, Mapping | list) for case in value):
        return {"gradient": value}
    found = []
    for case in value:
        if not isinstance(case, Mapping) or "value" not in case:
            raise ValueError(f"{about}: {case!r} has no value")
        _only(case, ("value", "filter"), about)
        if isinstance(case["value"], Mapping):
            raise ValueError(f"{about}: a value is a number, a word or a list of them, not {case['value']!r}")
        found.append({**case, "value": _setting(case["value"], about)})
    return found


def _else(setting: Any, default: Any) -> Any:
    """A setting with mergekit's default where none of its filters fits."""
    return [*setting, {"value": default}] if default is not None and is_choice(setting) else setting


def _path(given: Any, about: str) -> str:
    """The path of a model."""
    if isinstance(given, Mapping):
        _only(given, ("model", "path", "lora", "revision", "override_architecture"), about)
        for key in ("lora", "revision", "override_architecture"):
            if given.get(key) is not None:
                raise ValueError(f"{about}.{key} is not supported; merge it into the model's files first")
        return _path(given.get("model", given.get("path")), about)
    if not isinstance(given, str):
        raise ValueError(f"{about} is a path, not {given!r}")
    for sign, what in (("+", "a LoRA adapter"), ("@", "a revision")):
        if sign in given:
            raise ValueError(
                f"{about}: {given!r} names {what}, which is not supported; give a folder on disk"
            )
    return given


def _names(paths: Iterable[str]) -> dict[str, str]:
    """Path -> name."""
    found = named(list(dict.fromkeys(paths)))
    return {str(path): str(path) if name == BASE else name for name, path in found.items()}


def _numbers(given: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for key in ("dtype", "out_dtype"):
        if given.get(key) is not None:
            found[key] = str(given[key]).removeprefix("torch.")
            if found[key] not in DTYPES:
                raise ValueError(f"{key}: {unknown('dtype', found[key], DTYPES)}")
    precision = {"precision": "float64"} if found.get("dtype") == "float64" else {}
    return precision | ({"dtype": found.get("out_dtype") or found["dtype"]} if found else {})


def _tokenizer(given: Mapping[str, Any]) -> bool:
    """Whether a tokenizer is asked for: allowed where all models have the same one."""
    found = given.get("tokenizer")
    if found is None:
        return given.get("tokenizer_source") is not None
    if given.get("tokenizer_source") is not None:
        raise ValueError("both tokenizer_source and tokenizer are given")
    if not isinstance(found, Mapping):
        raise ValueError(f"tokenizer is a mapping with the key source, not {found!r}")
    _only(found, ("source", "tokens", "pad_to_multiple_of"), "tokenizer")
    for key in ("tokens", "pad_to_multiple_of"):
        if found.get(key) is not None:
            raise ValueError(f"tokenizer.{key} is not supported")
    return True


def _listed(given: Any, about: str) -> list[Any]:
    if not isinstance(given, list) or not given:
        raise ValueError(f"{about} is a list, not {given!r}")
    return given


def _only(given: Mapping[str, Any], known: Iterable[str], about: str) -> None:
    for key in given:
        if key not in known:
            raise ValueError(f"{about}{': ' if about else ''}{unknown('key', str(key), known)}")
