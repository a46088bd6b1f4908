"""Atomic writes: a file exists whole under its name, or not at all."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; on success it is synced and takes the name `path`.

    Raises FileNotFoundError where there is no folder for it; OSError names `path`, not the temporary file.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}; make it first")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        unnamed = error.filename is None and error.errno is not None  # as a full disk is
        if unnamed or error.filename == str(temporary):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def write(path: Path, content: bytes | str) -> None:
    """Write a whole file atomically; text is UTF-8."""
    with writing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_as(path: str | Path, what: str, forms: Mapping[str, Callable[[], str]]) -> None:
    """Write the one of several forms that the ending of `path` asks for, atomically; no other is made.

    forms: ending, such as ".json", -> a function that gives the text; .htm stands for .html, and case does
    not count. Raises ValueError, which calls it `what`, such as "a ranking", for an ending that is none of
    them.
    """
    path = Path(path)
    ending = path.suffix.lower()
    form = forms.get(".html" if ending == ".htm" else ending)
    if form is None:
        *others, last = forms
        endings = f"{', '.join(others)} or {last}" if others else last
        raise ValueError(f"{what} is written as {endings}, and {path} ends otherwise")
    write(path, form())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system allows it."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
