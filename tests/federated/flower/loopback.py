"""A deployment of Flower on this machine's loopback: TLS, authenticated nodes, processes to be killed."""

import datetime
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from equipoise.bridges.flower.processes import HOST, Command, environment, free_port, start

BIN = Path(sys.executable).parent
READY = 60.0
"""Seconds that a process is given until it answers."""


@dataclass
class Service:
    """A process and all that it starts, its output in a file."""

    command: Command
    log: Path

    @property
    def text(self) -> str:
        """What it has written so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, pattern: str, seconds: float = READY, *, after: int = 0) -> re.Match[str]:
        """The first match in the output, beyond its first `after` signs.

        Raises RuntimeError, with the log's end, where it does not come.
        """
        end = time.monotonic() + seconds
        while (found := re.search(pattern, self.text[after:])) is None:
            if not self.command.alive():
                code = self.command.process.returncode
                raise RuntimeError(f"{self.log.name} ended with {code}\n{self.tail()}")
            if time.monotonic() > end:
                raise RuntimeError(f"{self.log.name}: no {pattern!r} in {seconds} s\n{self.tail()}")
            time.sleep(0.1)
        return found

    def finished(self, seconds: float) -> int:
        """The exit status; raises RuntimeError, with the log's end, where the process goes on too long."""
        try:
            return self.command.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{self.log.name} did not end in {seconds} s\n{self.tail()}") from None

    def kill(self) -> None:
        """`kill -9` of the process and all that it started."""
        self.command.end(grace=0)

    def tail(self, lines: int = 40) -> str:
        """The end of the output, for messages."""
        return f"--- {self.log.name}\n" + "\n".join(self.text.splitlines()[-lines:])


@dataclass
class Loopback:
    """One SuperLink and its SuperNodes, each with a FLWR_HOME of its own under `folder`."""

    folder: Path
    port: int
    services: dict[str, Service] = field(default_factory=dict)
    runs: int = 0

    def link(self) -> Service:
        """Start the SuperLink, also anew after it was killed: its database stays."""
        certificates = (
            "--ssl-ca-certfile",
            "ca.crt",
            "--ssl-certfile",
            "link.crt",
            "--ssl-keyfile",
            "link.key",
        )
        rest = (
            "--enable-supernode-auth",
            "--database",
            "link.db",
            "--disable-runtime-dependency-installation",
        )
        address = ("--host", HOST, "--port", str(self.port))
        service = self.start("link", "flower-superlink", *certificates, *rest, *address)
        if not service.command.answers(self.port, READY):
            raise RuntimeError(f"the SuperLink does not answer\n{service.tail()}")
        return service

    def node(self, key: str, config: str = "", *, register: bool = True, name: str | None = None) -> Service:
        """Start a SuperNode with a key of its own, made on first use; does not wait until it is connected.

        Without `register` the SuperLink does not know the key; `name` is what it knows the key by.
        """
        file = self.folder / key
        if not file.exists():
            node_key(file)
            if register:
                self.flwr("supernode", "register", f"{file}.pub", "link", *(("--name", name) if name else ()))
        return self.start(
            key,
            "flower-supernode",
            *("--root-certificates", "ca.crt", "--superlink", f"{HOST}:{self.port}"),
            *("--host", HOST, "--port", str(free_port())),
            *("--ssl-certfile", "link.crt", "--ssl-keyfile", "link.key", "--ssl-ca-certfile", "ca.crt"),
            *("--auth-supernode-private-key", key),
            *(("--node-config", config) if config else ()),
        )

    def run(self, app: Path, config: Mapping[str, object] = {}) -> Service:
        """`flwr run --stream` of an app; the service's text is the log of its server."""
        self.runs += 1
        given = [f"{key}={toml(value)}" for key, value in config.items()]
        told = ("--run-config", " ".join(given)) if given else ()
        return self.start(f"run{self.runs}", "flwr", "run", str(app), "link", "--stream", *told)

    def flwr(self, *arguments: str) -> str:
        """A command of Flower's client, to its end; raises RuntimeError where it fails."""
        done = subprocess.run(
            [BIN / "flwr", *arguments],
            env=environment(self.home("user")),
            capture_output=True,
            text=True,
            timeout=READY,
        )
        if done.returncode:
            raise RuntimeError(f"flwr {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self, name: str, command: str, *arguments: str) -> Service:
        """Start a command of this environment, in `folder`."""
        log = self.folder / f"{name}.log"
        who = "user" if command == "flwr" else name
        with log.open("ab") as file:
            running = start(file, self.home(who), command, *arguments, folder=self.folder)
        self.services[name] = Service(running, log)
        return self.services[name]

    def home(self, who: str) -> Path:
        """The FLWR_HOME of a machine; the user's knows the SuperLink."""
        home = self.folder / f"home-{who}"
        home.mkdir(exist_ok=True)
        if who == "user":
            certificate = self.folder / "ca.crt"
            (home / "config.toml").write_text(
                f'[superlink]\ndefault = "link"\n\n[superlink.link]\naddress = "{HOST}:{self.port}"\n'
                f'root-certificates = "{certificate}"\n',
                encoding="utf-8",
            )
        return home

    def tails(self) -> str:
        """The ends of all logs."""
        return "\n".join(service.tail() for service in self.services.values())

    def close(self) -> None:
        """Kill everything that was started."""
        for service in self.services.values():
            service.kill()


@contextmanager
def loopback(folder: Path) -> Iterator[Loopback]:
    """A SuperLink that answers, over TLS, to nodes whose keys are registered.

    All processes are killed at the end; where the body fails the ends of their logs are printed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    certificates(folder)
    deployment = Loopback(folder, free_port())
    try:
        deployment.link()
        yield deployment
    except BaseException:
        print(deployment.tails())
        raise
    finally:
        deployment.close()


def toml(value: object) -> str:
    """A value as Flower's run configuration writes it."""
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')


def node_key(path: Path) -> None:
    """A private key at `path` and its public one at `path`.pub."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    path.write_bytes(private)
    Path(f"{path}.pub").write_bytes(public)


def certificates(folder: Path) -> None:
    """ca.crt, and link.crt with link.key that it vouches for, for localhost and 127.0.0.1."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.UTC)

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    def certificate(
        name: str, key: ec.EllipticCurvePrivateKey, *extensions: tuple[x509.ExtensionType, bool]
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named("test authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(authority, hashes.SHA256())

    authority = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    own = x509.SubjectKeyIdentifier.from_public_key(authority.public_key())
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
    usage = x509.KeyUsage(*[i in (0, 5, 6) for i in range(9)])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(IPv4Address(HOST))])
    root = certificate(
        "test authority", authority, (x509.BasicConstraints(True, None), True), (usage, True), (own, False)
    )
    link = certificate(
        "localhost", key, (x509.BasicConstraints(False, None), True), (names, False), (issuer, False)
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.crt").write_bytes(root.public_bytes(pem))
    (folder / "link.crt").write_bytes(link.public_bytes(pem))
    (folder / "link.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
