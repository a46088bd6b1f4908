"""Finding data: in `$EQUIPOISE_DATA`, in scikit-learn, or at OpenML where the user asked for it."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = "EQUIPOISE_DATA"
FILES = {
    "adult": ("fairness", "adult.csv.gz"),
    "cifar10-clients": ("cifar10", "cifar10_8k.npz"),
    "mnist-clients": ("mnist", "mnist.npz"),
    "mnist-pairs": ("mnist", "mnist.npz"),
    "sarcos": ("multi_target", "sarcos_test.npz"),
}
"""The folder and file below `$EQUIPOISE_DATA` that each problem or federation reads."""
_DOWNLOAD = "allow a download from OpenML with the option download=true (--set download=true)"


class MissingData(FileNotFoundError):
    """Data that is not on this machine; the message names the ways to get it."""


def data_of(problem: str, *, download: bool | None, instead: str = "digits-pairs") -> Path | None:
    """`find` for the file of a problem or federation of `FILES`."""
    return find(*FILES[problem], download=download, instead=instead)


def find(folder: str, file: str, *, download: bool | None, instead: str = "digits-pairs") -> Path | None:
    """`$EQUIPOISE_DATA/<folder>/<file>`; None where it is absent and the user asked for a download.

    `download` is None where there is none to ask for; `instead` is what needs no data of the user's.
    Raises MissingData where it is absent and no download was asked for.
    """
    root = os.environ.get(FOLDER)
    path = Path(root, folder, file).resolve() if root else None
    if path is not None and path.is_file():
        return path
    if download:
        return None
    absent = f"is not at {path}" if path else f"cannot be found, for ${FOLDER} is not set"
    raise MissingData(
        f"{folder}/{file} {absent}. {'Two' if download is None else 'Three'} ways on:"
        f" (1) set ${FOLDER} to a folder that holds {folder}/{file};"
        f" (2) take {instead}, whose data ships with scikit-learn"
        + ("." if download is None else f"; (3) {_DOWNLOAD}.")
    )


def digits() -> tuple[np.ndarray, np.ndarray]:  # -> (1797, 64), (1797,)
    """The handwritten digits that scikit-learn ships: pixels, float64 of 0 to 16, and names, int64.

    What its `load_digits` gives, read without importing scikit-learn, which takes longer than a short
    federated run.
    """
    found = find_spec("sklearn")
    folder = Path(found.origin).parent if found is not None and found.origin else Path()
    path = folder / "datasets" / "data" / "digits.csv.gz"
    if not path.is_file():  # another release may keep it elsewhere
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        return images, labels
    table = np.loadtxt(path, delimiter=",")
    return table[:, :-1], table[:, -1].astype(np.int64)


def fetch(data_id: int, **options: Any) -> Any:
    """A data set of OpenML by its number, as scikit-learn fetches, checks and keeps it.

    Raises MissingData where it cannot be fetched.
    """
    from sklearn.datasets import fetch_openml

    try:
        return fetch_openml(data_id=data_id, as_frame=False, parser="liac-arff", **options)
    except OSError as error:
        raise MissingData(
            f"data set {data_id} could not be fetched from OpenML ({error}); with the file itself, set"
            f" ${FOLDER} to the folder of data sets, or take digits-pairs, which needs neither"
        ) from error
