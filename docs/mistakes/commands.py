"""Names and options of the command line that do not exist or do not fit."""

from docs.mistakes.making import command, mistake, without

NAMES, COMMANDS, PROBLEMS = "Names on the command line", "Options and extras", "Problems, data and runs"
SMALL = ("--rules", "Mean", "--seeds", "1", "--epochs", "1", "--set", "pairs=60", "--quiet", "--out", "run")


@mistake(NAMES)
def _() -> None:
    """A verb that does not exist"""
    command("rnu", "digits-pairs")


@mistake(NAMES)
def _() -> None:
    """A rule that does not exist"""
    command("show", "UPGard")


@mistake(NAMES)
def _() -> None:
    """A problem that does not exist"""
    command("run", "digit-pairs")


@mistake(NAMES)
def _() -> None:
    """A federation that does not exist"""
    command("federate", "digits-cleints")


@mistake(NAMES)
def _() -> None:
    """A rule of a study that does not exist"""
    command("run", "digits-pairs", "--rules", "Mean,NashMLT")


@mistake(NAMES)
def _() -> None:
    """A front solver that does not exist"""
    command("run", "digits-pairs", "--front", "EPOO")


@mistake(NAMES)
def _() -> None:
    """A federated system that does not exist"""
    command("federate", "digits-clients", "--algorithm", "FedAvgg")


@mistake(NAMES)
def _() -> None:
    """A merging method that does not exist"""
    command("merge", "--method", "tise", "--base", "base", "a=tuned-a", "--out", "merged")


@mistake(NAMES)
def _() -> None:
    """A transferability score that does not exist"""
    command("select", "models", "--features", ".", "--scores", "LogMEE")


@mistake(NAMES)
def _() -> None:
    """An option of a problem that does not exist"""
    command("run", "digits-pairs", "--set", "widht=3")


@mistake(NAMES)
def _() -> None:
    """A guarantee that does not exist"""
    command("list", "--guarantee", "SIMPLE")


@mistake(COMMANDS)
def _() -> None:
    """An option that does not exist"""
    command("run", "digits-pairs", "--learning-rate", "0.1")


@mistake(COMMANDS)
def _() -> None:
    """Seeds that are no number"""
    command("run", "digits-pairs", "--seeds", "1,2,3")


@mistake(COMMANDS)
def _() -> None:
    """No seeds at all"""
    command("run", "digits-pairs", "--seeds", "0")


@mistake(COMMANDS)
def _() -> None:
    """A learning rate that is no number"""
    command("run", "digits-pairs", "--learning-rates", "0.1,fast")


@mistake(COMMANDS)
def _() -> None:
    """An option of a problem out of range"""
    command("run", "digits-pairs", "--set", "width=-3")


@mistake(COMMANDS)
def _() -> None:
    """A merge without a place for the result"""
    command("merge", "--method", "ties", "--base", "base", "a=tuned-a")


@mistake(COMMANDS)
def _() -> None:
    """Ray, which is not installed"""
    command("run", "digits-pairs", "--engine", "ray", first=without("ray"))


@mistake(COMMANDS)
def _() -> None:
    """Flower, which is not installed"""
    command("federate", "digits-clients", "--engine", "flower", first=without("flwr"))


@mistake(PROBLEMS)
def _() -> None:
    """Data without a word on where they are"""
    command("run", "sarcos", variables={"EQUIPOISE_DATA": None})


@mistake(PROBLEMS)
def _() -> None:
    """Data that are not where they are said to be"""
    command("federate", "mnist-clients", variables={"EQUIPOISE_DATA": "data"})


@mistake(PROBLEMS)
def _() -> None:
    """A problem file that is not there"""
    command("run", "problem.py")


@mistake(PROBLEMS)
def _() -> None:
    """A problem file with a mistake in its syntax"""
    command("run", "problem.py", files={"problem.py": "class Problem(:\n"})


@mistake(PROBLEMS)
def _() -> None:
    """A problem file that defines no problem"""
    command("run", "problem.py", files={"problem.py": "x = 1\n"})


@mistake(PROBLEMS)
def _() -> None:
    """A problem that lacks what a study asks of it"""
    content = "import equipoise\n\nclass Mine(equipoise.Problem):\n    objectives = ('near', 'far')\n"
    command("run", "problem.py", files={"problem.py": content})


@mistake(PROBLEMS)
def _() -> None:
    """A run folder of another study"""
    one, other = ([*SMALL, "--learning-rates", rate] for rate in ("0.1", "0.2"))
    command("run", "digits-pairs", *other, after=["run", "digits-pairs", *one])


@mistake(PROBLEMS)
def _() -> None:
    """A folder that is no run folder"""
    command("report", ".")


@mistake(PROBLEMS)
def _() -> None:
    """A run folder that was damaged"""
    command("report", ".", files={"study.toml": 'problem = "digits-pai\n'})
