"""docs/errors.md: every mistake is made, and the page shows what is said of it today."""

import re
import sys

import pytest
from docs import errors
from docs.mistakes.making import GROUPS, command

SHOWN = errors.PAGE.read_text(encoding="utf-8")
TRACE = re.compile(r"Traceback|File \"|/tmp/|site-packages")


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities and limits of Linux")
@pytest.mark.parametrize("group", errors.ORDER)
def test_the_page_shows_what_is_said(group):
    made = errors.part(group)
    assert made in SHOWN
    assert not TRACE.search(made)


def test_the_page_holds_every_group_and_nothing_else():
    assert set(errors.ORDER) == set(GROUPS)
    parts = [part.rstrip("\n") + "\n" for part in re.split(r"^(?=## )", SHOWN, flags=re.MULTILINE)[1:]]
    assert [part.partition("\n")[0] for part in parts] == [f"## {group}" for group in errors.ORDER]
    assert errors.page(dict(zip(errors.ORDER, parts, strict=True))) == SHOWN
    count = sum(map(len, GROUPS.values()))
    assert count >= 40
    assert SHOWN.count("\n### ") == count


def test_what_is_no_mistake_is_not_shown():
    def quiet():
        """Nothing wrong"""
        command("list", "pareto")

    with pytest.raises(AssertionError, match="nothing was said about: Nothing wrong"):
        errors.made(quiet)


def test_folders_and_addresses_of_this_machine_are_left_out(tmp_path):
    said = f"<Rule object at 0x7f12ab> in {tmp_path}/a/.model.1234.part and {errors.ROOT}/src"
    assert errors.plain(said, str(tmp_path)) == "<Rule object at 0x...> in a/.model.part and src"
