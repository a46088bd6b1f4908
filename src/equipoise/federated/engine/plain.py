"""What is run, as plain values: what must be the same for a run to go on."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def plain(thing: object) -> Any:
    """A setting as plain values for JSON, the same in every process.

    Objects are their kind and public attributes (a dataclass its fields alone, less those that do not
    count when two are compared), tensors and arrays a digest, functions their names.
    """
    match thing:
        case None | bool() | int() | float() | str():
            return thing
        case Mapping():
            return {str(key): plain(value) for key, value in thing.items()}
        case list() | tuple():
            return [plain(value) for value in thing]
        case set() | frozenset():
            return sorted((plain(value) for value in thing), key=str)
        case np.ndarray():
            return plain(torch.from_numpy(np.ascontiguousarray(thing)))
        case torch.Generator():
            return {"kind": "Generator", "state": plain(thing.get_state())}
        case Tensor():
            content = thing.detach().cpu().contiguous().double().numpy().tobytes()
            return f"{thing.dtype} {tuple(thing.shape)} {sha256(content).hexdigest()[:16]}"
        case nn.Module():
            return {"kind": repr(thing), "state": plain(dict(thing.state_dict()))}
        case _ if is_dataclass(thing):
            counted = [field.name for field in fields(thing) if field.compare]
            values = {name: getattr(thing, name) for name in counted}
        case partial():
            values = {"function": thing.func, "args": thing.args, "keywords": thing.keywords}
        case _ if callable(thing) and hasattr(thing, "__qualname__"):
            return f"{getattr(thing, '__module__', '')}.{thing.__qualname__}"
        case _ if type(thing).__repr__ is object.__repr__:
            values = {key: value for key, value in vars(thing).items() if not key.startswith("_")}
        case _:
            return repr(thing)
    return {"kind": type(thing).__name__, **{key: plain(value) for key, value in values.items()}}
