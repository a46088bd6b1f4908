"""Nodes: which client each of Flower's nodes is, what it was sent, and what has come back."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from equipoise.bridges.flower.messages import HEAD
from equipoise.bridges.flower.peer import flwr

LOG = logging.getLogger("flwr")
QUERY = "query"
LOOK = 1.0
"""Seconds between two looks at the list of nodes."""
GONE = frozenset({3, 4, 5})
"""Flower's codes for a reply that will not come: a message or reply that expired, a node that is gone."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A reply, or what Flower says in its place.

    content: the records, None where there is no reply. gone: the node was lost, or too slow. fault: the
    client's own error.
    """

    client: str
    kind: str
    number: int
    content: Any = None
    gone: bool = False
    fault: str = ""


@dataclass(frozen=True, slots=True)
class _Sent:
    node: int
    client: str
    kind: str
    number: int


class Nodes:
    """The nodes of a run by the names of clients. One message at a time is under way to each.

    A node whose key was registered under a client's name is that client; any other is asked once. The
    first node of a name is the client for as long as it is there, another that claims the name is refused.
    """

    def __init__(self, grid: Any, clients: Sequence[str]) -> None:
        self.grid = grid
        self.clients = clients
        self.node: dict[str, int] = {}
        self.seen: set[str] = set()
        self.refused: dict[int, str] = {}
        self._online: set[int] = set()
        self._sent: dict[str, _Sent] = {}
        self._looked = float("-inf")

    def idle(self, client: str) -> bool:
        """Whether the client has a node that waits for a message."""
        node = self.node.get(client)
        return node in self._online and all(sent.node != node for sent in self._sent.values())

    def working(self, client: str, kind: str, number: int) -> bool:
        """Whether a message of this kind and round is under way to the client."""
        asked = client, kind, number
        return any((sent.client, sent.kind, sent.number) == asked for sent in self._sent.values())

    def send(self, kind: str, number: int, contents: Mapping[str, Any], seconds: float) -> list[Arrived]:
        """Send each of these clients its records, which count for `seconds`; those not sent come back."""
        nodes = {client: self.node[client] for client in contents}
        left = self._push(
            kind, number, [(nodes[name], name, part) for name, part in contents.items()], seconds
        )
        return [Arrived(name, kind, number, fault="its message could not be sent") for name in left]

    def poll(self) -> list[Arrived]:
        """What has come since the last call; nodes that are new are asked who they are."""
        arrived: list[Arrived] = []
        if self._sent:
            for message in self.grid.pull_messages(list(self._sent)):
                sent = self._sent.pop(message.metadata.reply_to_message_id, None)
                if sent is None:
                    continue
                if sent.kind == QUERY:
                    self._introduced(sent.node, message)
                else:
                    arrived.append(_read(sent, message))
        if time.monotonic() - self._looked >= LOOK:
            self._look()
            self._looked = time.monotonic()
        return arrived

    def _look(self) -> None:
        nodes = {info.node_id: info for info in self.grid.get_nodes()}
        self._online = set(nodes)
        self.refused = {node: why for node, why in self.refused.items() if node in nodes}
        known = {*self.node.values(), *self.refused, *(sent.node for sent in self._sent.values())}
        fresh: list[tuple[int, str, Any]] = []
        for node in sorted(set(nodes) - known):
            if nodes[node].name in self.clients:
                self._claim(node, nodes[node].name, registered=True)
            else:
                fresh.append((node, "", flwr().RecordDict()))
        if fresh:
            self._push(QUERY, 0, fresh, None)

    def _push(
        self, kind: str, number: int, parts: Iterable[tuple[int, str, Any]], seconds: float | None
    ) -> list[str]:
        peer, made = flwr(), {}
        for node, client, content in parts:
            message = peer.Message(content, node, kind, ttl=seconds, group_id=str(number) if number else None)
            made[client, node] = message
        pushed = set(self.grid.push_messages(list(made.values())))
        left = []
        for (client, node), message in made.items():
            if message.metadata.message_id in pushed:
                self._sent[message.metadata.message_id] = _Sent(node, client, kind, number)
            else:
                left.append(client)
        return left

    def _introduced(self, node: int, message: Any) -> None:
        if message.has_error():
            if message.error.code not in GONE:
                self._refuse(node, _words(message.error.reason))
            return
        name = message.content.config_records.get(HEAD, {}).get("client", "")
        if name in self.clients:
            self._claim(node, name)
        else:
            self._refuse(
                node, f"it names no client ({name!r})" if name else "its configuration names no client"
            )

    def _claim(self, node: int, name: str, *, registered: bool = False) -> None:
        holder = self.node.get(name)
        if holder in self._online and holder != node and not registered:
            self._refuse(node, f"it says that it is {name}, which node {holder} is")
            return
        self.node[name] = node
        self.seen.add(name)
        LOG.info("node %s is client %s", node, name)

    def _refuse(self, node: int, why: str) -> None:
        self.refused[node] = why
        LOG.warning("node %s is left out: %s", node, why)


def _read(sent: _Sent, message: Any) -> Arrived:
    if not message.has_error():
        return Arrived(sent.client, sent.kind, sent.number, message.content)
    if message.error.code in GONE:
        return Arrived(sent.client, sent.kind, sent.number, gone=True)
    return Arrived(sent.client, sent.kind, sent.number, fault=_words(message.error.reason))


def _words(reason: str | None) -> str:
    """`<class 'ValueError'>:<'words'>`, as Flower has it, as `ValueError: words`, on one line."""
    told = " ".join((reason or "an error without words").split())
    kind, sign, words = told.partition(":<'")
    if not (sign and kind.startswith("<class '") and kind.endswith("'>") and words.endswith("'>")):
        return told
    return f"{kind[8:-2].rpartition('.')[2]}: {words[:-2]}"
