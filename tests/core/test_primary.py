import pytest

from equipoise.core.primary import primary_place


def test_by_name_or_the_first():
    assert primary_place("b", ("a", "b")) == 1
    assert primary_place(None, ("a", "b")) == 0


def test_an_unknown_name_lists_its_neighbours():
    with pytest.raises(ValueError, match="no objective is called 'quality'; nearest: Quality"):
        primary_place("quality", ("Quality", "speed"))
