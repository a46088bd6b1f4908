"""Imports that a command needs to its end."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lasting_imports() -> Iterator[None]:
    """What is made within stays for good: the garbage collector neither runs nor goes through it afterwards.

    For imports: torch alone makes so many objects that going through them over and over, and once more at the
    end, is a fifth of the time of a short command.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was:
            gc.enable()
