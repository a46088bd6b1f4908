"""Problems and federations by name or by file; each mistake is told with its place and its remedy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from equipoise import Federation, Metric, Problem
from equipoise.core.card import cards
from equipoise.problems.options import parse_options
from equipoise.problems.registry import builtin, federation, problem
from equipoise.problems.userfile import ProblemError, check, only_subclass

WHOLE = """
from dataclasses import dataclass
from typing import ClassVar
from equipoise import Metric, Problem

@dataclass
class Mine(Problem):
    objectives: ClassVar[tuple[str, ...]] = ("up", "down")
    metrics: ClassVar[dict[str, Metric]] = {"up": Metric("error", "lower"), "down": Metric("error", "lower")}
    width: int = 3
    def model(self): ...
    def batches(self, split, generator): ...
    def losses(self, model, batch): ...
    def evaluate(self, model, split): ...
"""

CLIENTS = """
from dataclasses import dataclass
from typing import ClassVar
from equipoise import Federation, Metric

@dataclass
class Ours(Federation):
    count: int = 3
    @property
    def clients(self): return tuple(f"site-{k}" for k in range(self.count))
    def model(self): ...
    def examples(self, client, split): ...
"""


@pytest.fixture
def file(tmp_path):
    def write(text: str, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def refused(path, find=problem, **options) -> str:
    with pytest.raises(ProblemError) as caught:
        find(str(path), **options)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_every_card_names_a_complete_problem():
    assert set(builtin("problem")) == {"digits-pairs", "mnist-pairs", "sarcos", "adult"}
    for name in builtin("problem"):
        found = problem(name)
        check(type(found), name)
        assert type(found).__name__.lower() == name.replace("-", "")
        assert len(found.learning_rates) == 3


def test_a_card_of_the_room_is_of_a_problem_or_a_federation():
    assert set(builtin("federation")) == {"digits-clients", "mnist-clients", "cifar10-clients"}
    assert {**builtin("problem"), **builtin("federation")} == cards("problems")


@pytest.mark.parametrize(
    ("find", "name", "words"),
    [
        (
            problem,
            "digits-clients",
            "a federation, not a problem; it is for `equipoise federate digits-clients`",
        ),
        (federation, "digits-pairs", "a problem, not a federation; it is for `equipoise run digits-pairs`"),
    ],
)
def test_the_one_asked_for_as_the_other_is_told_so(find, name, words):
    with pytest.raises(ProblemError) as caught:
        find(name)
    assert str(caught.value) == f"{name} is {words}"


def test_an_unknown_federation_has_only_federations_for_neighbours():
    with pytest.raises(ValueError, match=r"no federation is called 'digit-client'; nearest: digits-clients"):
        federation("digit-client")
    with pytest.raises(ValueError, match="known: cifar10-clients, digits-clients, mnist-clients;"):
        federation("xyz")


def test_an_unknown_name_lists_its_neighbours():
    with pytest.raises(ValueError, match=r"no problem is called 'digit-pairs'; nearest: digits-pairs"):
        problem("digit-pairs")


def test_an_unknown_option_lists_its_neighbours():
    with pytest.raises(ValueError, match=r"no option of digits-pairs is called 'pair'; nearest: pairs"):
        problem("digits-pairs", pair=3)


def test_an_option_that_does_not_fit_says_which_type_does():
    with pytest.raises(ValueError, match=r"digits-pairs: option pairs takes int, but was given 'many'"):
        problem("digits-pairs", pairs="many")


@dataclass
class Options(Problem):
    objectives: ClassVar[tuple[str, ...]] = ("up", "down")
    count: int = 1
    rate: float = 0.1
    flag: bool = False
    word: str = ""
    place: Path = Path()
    maybe: int | None = None
    kind: Literal["small", "large"] = "small"
    sizes: tuple[int, ...] = ()
    span: tuple[float, str] = (0.0, "m")
    free: Any = None


@pytest.mark.parametrize(
    ("option", "given", "value"),
    [
        ("count", "7", 7),
        ("rate", "1e-3", 1e-3),
        ("rate", 2, 2.0),
        ("flag", "true", True),
        ("flag", "No", False),
        ("flag", True, True),
        ("word", "7", "7"),
        ("place", "a/b", Path("a/b")),
        ("maybe", "none", None),
        ("maybe", "4", 4),
        ("kind", "large", "large"),
        ("sizes", "3, 4,5", (3, 4, 5)),
        ("sizes", [3, 4], (3, 4)),
        ("span", "2,km", (2.0, "km")),
        ("free", "x", "x"),
    ],
)
def test_text_is_read_by_the_type_of_the_field(option, given, value):
    found = parse_options("x", Options, {option: given})[option]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("option", "given"),
    [
        ("count", "7.5"),
        ("count", True),
        ("count", 7.0),
        ("rate", "fast"),
        ("flag", "maybe"),
        ("flag", 1),
        ("word", 7),
        ("maybe", "x"),
        ("kind", "medium"),
        ("sizes", "3,x"),
        ("sizes", 3),
        ("span", "2"),
    ],
)
def test_a_value_of_another_type_is_refused(option, given):
    with pytest.raises(ValueError, match=f"option {option} takes .*, but was given"):
        parse_options("x", Options, {option: given})


def test_a_class_variable_is_no_option():
    with pytest.raises(ValueError, match="no option of x is called 'objectives'"):
        parse_options("x", Options, {"objectives": "a,b"})


def test_a_file_of_the_users(file):
    path = file(WHOLE)
    found = problem(str(path), width="5")
    assert isinstance(found, Problem)
    assert found.width == 5
    assert problem(path).width == 3


def test_a_changed_file_is_read_again(file):
    problem(file(WHOLE))
    assert problem(file(WHOLE.replace("width: int = 3", "width: int = 4"))).width == 4


def test_a_file_may_import_its_neighbour(file):
    file("WIDTH = 11\n", "the_neighbour_of_mine.py")
    text = "from the_neighbour_of_mine import WIDTH\n" + WHOLE.replace("= 3", "= WIDTH")
    assert problem(file(text)).width == 11


def test_a_file_that_is_not_there(tmp_path):
    assert "equipoise init mine.py" in refused(tmp_path / "mine.py")


def test_a_file_that_is_not_python(file):
    assert "neither a built-in problem nor a Python file" in refused(file("", "mine.txt"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nothing_of_this_name\n", "line 1, does not import: ModuleNotFoundError"),
        ("x = 1\n\ny = x / 0\n", "line 3, does not import: ZeroDivisionError"),
        ("def f(:\n", "does not import: SyntaxError"),
        ("import sys\nsys.exit(3)\n", "does not import: SystemExit: 3"),
        (
            "from equipoise import Problem\n",
            "must define one subclass of equipoise.Problem, but defines none",
        ),
        (WHOLE + "\nclass Other(Mine): pass\n", "defines 2: Mine, Other"),
        (WHOLE.replace("def losses", "def loss"), "method losses is missing"),
        (WHOLE.replace(', "down": Metric("error", "lower")', ""), "objective 'down' has no metric"),
        (WHOLE.replace('("up", "down")', '("up", "dawn")'), "metric 'down' has no objective"),
        (WHOLE.replace('("up", "down")', '("up",)'), "at least two objectives"),
        (WHOLE.replace('("up", "down")', '("up", "up")'), "two objectives have the same name"),
        (WHOLE.replace('("up", "down")', '("up", "../down")'), "'../down' cannot name a file"),
        (WHOLE.replace('("up", "down")', '"up"'), "objectives must be a tuple of names"),
        (WHOLE.replace('"lower"', '"less"'), "must be Metric(name, 'higher' or 'lower')"),
        (WHOLE.replace("    width", "    epochs = 0\n    width"), "epochs is 0"),
        (
            WHOLE.replace("    width", "    learning_rates = (0.1, -1)\n    width"),
            "learning_rates is (0.1, -1)",
        ),
        (WHOLE.replace("@dataclass\n", ""), "width cannot be set, for @dataclass is missing"),
        (WHOLE.replace("width: int", "width: 'Nowhere'"), "annotations cannot be read (NameError"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(file, text, words):
    assert words in refused(file(text))


def test_a_federation_of_the_users(file):
    path = file(CLIENTS)
    found = federation(str(path), count="2")
    assert isinstance(found, Federation)
    assert found.clients == ("site-0", "site-1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (WHOLE, "one subclass of equipoise.Federation, but defines none; Mine is a problem"),
        (CLIENTS + "\nclass Other(Ours): pass\n", "defines 2: Ours, Other"),
        (
            CLIENTS.replace("def model", "def net"),
            "the federation Ours is incomplete: method model is missing",
        ),
        (CLIENTS.replace("def clients", "def names"), "property clients is missing"),
        (CLIENTS.replace("def examples", "def data"), "method examples is missing"),
        (
            CLIENTS.replace("    count", '    metric: ClassVar = Metric("error", "less")\n    count'),
            "metric must be Metric(name, 'higher' or 'lower'), not Metric(name='error', better='less')",
        ),
        (
            CLIENTS.replace("    count", "    learning_rate: ClassVar = -1\n    count"),
            "learning_rate is -1, not a positive number",
        ),
        (CLIENTS.replace("@dataclass\n", ""), "count cannot be set, for @dataclass is missing"),
    ],
)
def test_what_is_wrong_with_a_file_of_a_federation_is_said(file, text, words):
    assert words in refused(file(text), federation)


def test_a_federation_asked_for_as_a_problem_is_told_so(file):
    assert "but defines none; Ours is a federation" in refused(file(CLIENTS))


def test_a_file_may_define_a_problem_and_a_federation(file):
    path = file(WHOLE + CLIENTS)
    assert type(problem(path)).__name__ == "Mine"
    assert type(federation(path)).__name__ == "Ours"


def test_a_file_of_a_federation_that_is_not_there(tmp_path):
    assert "`equipoise init mine.py --federation` writes one" in refused(tmp_path / "mine.py", federation)


def test_a_constructor_that_refuses_names_the_file(file):
    text = WHOLE + "    def __post_init__(self):\n        assert self.width < 9, 'too wide'\n"
    assert "AssertionError: too wide" in refused(file(text), width=9)


def test_only_the_modules_own_classes_count(file):
    import equipoise.problems.digitspairs as module

    assert only_subclass(module, Problem, "here").__name__ == "DigitsPairs"
    with pytest.raises(ProblemError, match="defines none; DigitsPairs is a problem"):
        only_subclass(module, Federation, "here")


def test_metric_problem_and_federation_are_the_public_ones():
    from equipoise.core import federation as clients
    from equipoise.core import problem as core

    assert (Metric, Problem, Federation) == (core.Metric, core.Problem, clients.Federation)
