"""What several verbs take: options of a problem, lists of numbers, the command that repeats a run."""

import shlex
from collections.abc import Iterable
from typing import Any

import typer


def builds(problem: str) -> bool:
    """Whether the problem can be built with its defaults."""
    from equipoise.problems.registry import problem as find_problem

    try:
        find_problem(problem)
    except ValueError:
        return False
    return True


def command_line(context: Any) -> str:
    """The command line that repeats this run: what was given, without what only concerns the talk."""
    words = ["equipoise", context.info_name, context.params["problem"]]
    for parameter in context.command.params:
        value = context.params.get(parameter.name)
        source = context.get_parameter_source(parameter.name)
        if parameter.param_type_name != "option" or source is None or source.name != "COMMANDLINE":
            continue
        if parameter.name in ("quiet", "as_json"):
            continue
        flag = max(parameter.opts, key=len)
        if parameter.is_flag:
            words += [flag] if value else []
        elif isinstance(value, list | tuple):
            words += [word for one in value for word in (flag, str(one))]
        else:
            words += [flag, str(getattr(value, "value", value))]
    return shlex.join(words)


def numbers(text: str) -> list[float]:
    """Numbers as a,b,c. Raises BadParameter."""
    try:
        return [float(word) for word in text.split(",") if word.strip()]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of numbers such as 0.03,0.1,0.3") from None


def pairs(options: Iterable[str]) -> dict[str, str]:
    """The options of a problem, as key=value. Raises BadParameter."""
    pairs = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"--set {option!r} is not of the form key=value")
        pairs[key.strip()] = value
    return pairs
