"""Lasting imports: the garbage collector rests, goes on as it was, and leaves alone what was imported."""

import gc
from collections.abc import Iterator

import pytest

from equipoise.cli.lasting import lasting_imports


class Ring:
    """An object that refers to itself, which the collector alone can free."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_what_is_made_within_is_gone_through_no_more():
    with lasting_imports():
        assert not gc.isenabled()
        ring = Ring()
    after = Ring()
    assert gc.isenabled()
    looked_at = {id(one) for one in gc.get_objects()}
    assert id(after) in looked_at
    assert id(ring) not in looked_at


def test_an_import_that_fails_leaves_the_collector_as_it_was():
    with pytest.raises(ImportError), lasting_imports():
        raise ImportError
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off():
    gc.disable()
    with lasting_imports():
        pass
    assert not gc.isenabled()
