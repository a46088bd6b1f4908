"""Flower's grid within the test's process: nodes that answer, are late, are gone, or have another app."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

pytest.importorskip("flwr", reason="flwr is not installed; it comes with: pip install 'equipoise[federated]'")

from flwr.app import Context, Error, Message, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.supercore.task_identity import TaskIdentity


@dataclass
class Node:
    """One node. late: seconds until a reply is there. gone: never again, as after `kill -9`.

    name: what its key was registered under. tamper: changes the content of what it sends.
    """

    app: Any
    config: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    late: float = 0.0
    gone: bool = False
    tamper: Callable[[RecordDict], None] | None = None
    state: RecordDict = field(default_factory=RecordDict)
    received: list[str] = field(default_factory=list)


class Grid:
    """What `Strategy` asks of Flower's grid; records go through Flower's own serialisation both ways."""

    def __init__(self, *nodes: Node, config: Mapping[str, Any] = {}) -> None:
        TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1  # as in a server's process
        self.nodes = dict(enumerate(nodes, start=100))
        self.config = dict(config)
        self.waiting: dict[str, tuple[float, Message, Message | None]] = {}

    def get_nodes(self) -> list[Any]:
        return [SimpleNamespace(node_id=number, name=node.name) for number, node in self.nodes.items()]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        pushed = []
        for message in messages:
            identity = uuid4().hex
            message.metadata.__dict__["_message_id"] = identity
            node = self.nodes[message.metadata.dst_node_id]
            node.received.append(message.metadata.message_type)
            reply = None if node.gone else self._answer(node, message)
            self.waiting[identity] = time.monotonic() + node.late, message, reply
            pushed.append(identity)
        return pushed

    def pull_messages(self, identities: Iterable[str]) -> list[Message]:
        ready = [
            identity
            for identity in identities
            if self.waiting[identity][0] <= time.monotonic() and self.waiting[identity][2] is not None
        ]
        return [reply for identity in ready if (reply := self.waiting.pop(identity)[2]) is not None]

    def _answer(self, node: Node, message: Message) -> Message:
        message.content = wired(message.content)
        context = Context(1, message.metadata.dst_node_id, node.config, wired(node.state), self.config)
        try:
            reply = node.app(message, context)
        except Exception as error:
            return Message(Error(2, f"{type(error)}:<'{error}'>"), reply_to=message)
        node.state = context.state
        if node.tamper is not None and message.metadata.message_type == "train":
            node.tamper(reply.content)
        return Message(wired(reply.content), reply_to=message)


def wired(content: RecordDict) -> RecordDict:
    """Records as they come out of Flower's serialisation."""
    return recorddict_from_proto(recorddict_to_proto(content))
