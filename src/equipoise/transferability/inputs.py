"""What a sample takes: arrays of all kinds as NumPy's, checked; what is at fault is named with the model."""

from typing import Any

import numpy as np

Array = np.ndarray


def array(values: Any, what: str) -> Array | None:
    """An array of what was given; half-precision tensors become float32, which NumPy knows."""
    if values is None:
        return None
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        return (values.float() if str(values.dtype) == "torch.bfloat16" else values).numpy()
    if np.ma.is_masked(values):
        raise ValueError(f"{what} are masked in part; fill or drop these samples")
    try:
        found = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{what} are of unlike lengths and make no array: {error}") from None
    if not found.ndim:
        raise ValueError(
            f"{what} are one {type(values).__name__}; give an array with a row for each sample, or for "
            "features a function that gives chunks"
        )
    return found


def check_features(name: str, found: Array, what: str = "features have", shape: str = "(N, D)") -> None:
    if found.ndim != 2 or not found.shape[1]:
        raise ValueError(f"{name}: {what} shape {found.shape}; give {shape}, D at least 1")
    if found.dtype.kind not in "biuf":
        raise ValueError(f"{name}: {what} type {found.dtype}; give real numbers")


def raise_unless_finite(values: Array, what: str, places: int | Array) -> None:
    """places: of the rows of `values`, or of the first of them."""
    if not np.isfinite(values).all():
        row = int((~np.isfinite(values)).reshape(len(values), -1).any(1).argmax())
        row = places + row if isinstance(places, int) else int(places[row])
        raise ValueError(f"{what} {row} is NaN or infinite")


def precision(given: Any, found: Array) -> float:
    """The distance from 1 to the next number of the type in which numbers were given."""
    if "bfloat16" in str(getattr(given, "dtype", "")):
        return 2.0**-7
    return float(np.finfo(found.dtype).eps) if found.dtype.kind == "f" else 0.0


def checked_probabilities(name: str, values: Array, rounding: float) -> Array:
    """The same, but for those of so coarse a type that their sums are off, which are divided by them."""
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise ValueError(
            f"{name}: probabilities have type {values.dtype} and shape {values.shape}; give real numbers "
            "(N, classes of the source)"
        )
    raise_unless_finite(values, f"{name}: a probability of sample", 0)
    negative = (values < 0).any(1)
    if negative.any():
        raise ValueError(
            f"{name}: a probability of sample {int(negative.argmax())} is negative; give those after the "
            "soft-max"
        )
    sums = values.sum(1, dtype=float)
    bad = np.abs(sums - 1) > max(1e-3, 4 * rounding)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"{name}: the probabilities of sample {row} sum to {sums[row]:g} instead of 1; give those after "
            "the soft-max"
        )
    return values / sums[:, None] if rounding > 1e-3 else values


def checked_labels(labels: Array | None, name: str, numbers: bool) -> Array | None:
    """Labels as they will be used: a single column of classes flat, text in objects as text.

    Raises ValueError, naming the model, for a missing label, a type that is neither class nor number, and
    one column of whole floating-point numbers that repeat, unless `numbers` says that they are numbers.
    """
    if labels is None:
        return None
    if labels.ndim > 2:
        raise ValueError(f"{name}: labels have shape {labels.shape}; give (N,) or (N, K)")
    if labels.dtype.kind == "O":
        labels = _plain(labels, name)
    kind = labels.dtype.kind
    if kind not in ("biuf" if numbers else "biufUS"):
        raise ValueError(
            f"{name}: labels have type {labels.dtype}; give numbers or classes as text or integers"
        )
    if kind == "f":
        raise_unless_finite(labels, f"{name}: the label of sample", 0)
    if numbers:
        return labels
    column = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if kind != "f":
        return column
    if column.ndim == 1 and (column == np.round(column)).all():
        values = np.unique(column)
        if 2 * len(values) <= len(column):
            raise ValueError(
                f"{name}: labels are whole floating-point numbers of {len(values)} values; if they are "
                "classes, cast them to integers, and if they are numbers, say so: numbers=True, or --numbers"
            )
    return labels


def _plain(labels: Array, name: str) -> Array:
    """Objects as the type that all of them have."""
    flat = labels.ravel().tolist()
    for at, label in enumerate(flat):
        if label is None or label != label:
            raise ValueError(
                f"{name}: the label of sample {at * len(labels) // len(flat)} is missing: {label}"
            )
    types = sorted({type(label).__name__ for label in flat})
    found = np.array(flat).reshape(labels.shape)
    if len(types) > 1 or found.dtype.kind == "O":
        raise ValueError(f"{name}: labels are of the types {', '.join(types)}; give one, text or integers")
    return found
