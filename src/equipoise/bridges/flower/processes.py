"""Flower's commands as processes of this machine, ended with everything that they have started."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from equipoise.bridges.flower.peer import SILENT

HOST = "127.0.0.1"
GRACE = 8.0
"""Seconds that processes are given to end by themselves, and after `kill -9` to be gone."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command that was started, and the sessions of what it has started in turn.

    Flower and Ray put their processes into sessions and groups of their own, and give them other titles:
    it is by session that they are found again when their parents have ended.
    """

    process: subprocess.Popen[bytes]
    sessions: set[int] = field(default_factory=set)

    def alive(self) -> bool:
        """Whether the command itself still runs."""
        return self.process.poll() is None

    def family(self) -> set[int]:
        """The processes that are left of it and of its descendants; itself alone where there is no /proc."""
        table = _table()
        known, grown = {self.process.pid}, True
        while grown:
            more = {pid for pid, (parent, _) in table.items() if parent in known} - known
            known, grown = known | more, bool(more)
        self.sessions.update(table[pid][1] for pid in known if pid in table)
        left = {pid for pid, (_, session) in table.items() if session in self.sessions}
        return left | ({self.process.pid} if self.alive() else set())

    def end(self, grace: float = GRACE) -> None:
        """Ask it to end, and see that it does, with its descendants; with no `grace`, `kill -9` at once."""
        left, began = self.family(), time.monotonic()
        if grace and self.alive():
            self.process.terminate()
        while left:
            waited = time.monotonic() - began
            if waited > grace + GRACE:
                return  # what `kill -9` does not end is the system's to end
            for each in left if waited >= grace else ():
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
            time.sleep(0.05)
            left = self.family()

    def answers(self, port: int, seconds: float) -> bool:
        """Whether it listens at a port of this machine in this time; False as soon as it has ended."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.alive():
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex((HOST, port)) == 0:
                    return True
            time.sleep(0.05)
        return False


def start(log: IO[bytes], home: Path, command: str, *arguments: str, folder: Path | None = None) -> Command:
    """Start one of Flower's commands of this environment, its FLWR_HOME at `home`, what it says in `log`.

    It works in `folder`, else in `home`. Raises RuntimeError where there is no such command.
    """
    beside = str(Path(sys.executable).parent)
    found = shutil.which(command, path=beside) or shutil.which(command)
    if found is None:
        raise RuntimeError(f"there is no command {command} beside {sys.executable}, though flwr is installed")
    process = subprocess.Popen(
        [found, *arguments],
        cwd=folder or home,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    return Command(process)


@contextmanager
def started(log: IO[bytes], home: Path, command: str, *arguments: str) -> Iterator[Command]:
    """The same for as long as a `with` lasts."""
    running = start(log, home, command, *arguments)
    try:
        yield running
    finally:
        running.end()


def environment(home: Path) -> dict[str, str]:
    """This process's variables, with a FLWR_HOME, nothing sent to anybody, and tasks looked for often."""
    quiet = {name: os.environ.get(name, value) for name, value in SILENT.items()}
    own = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "FLWR_HOME": str(home),
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONUNBUFFERED": "1",
    }
    return dict(os.environ) | quiet | own


def _table() -> dict[int, tuple[int, int]]:
    """{process: (parent, session)} of all that have not ended."""
    found: dict[int, tuple[int, int]] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, _, session = place.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue  # it has ended since
        if state not in "ZX":
            found[int(place.parent.name)] = int(parent), int(session)
    return found


def free_port() -> int:
    """A port of this machine that nobody listens at, as of now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]
