"""Servers that keep to a script, and tell where a client did not."""

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Optional

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from streamdrnn.client.protocol import VERSION, Result, pack_result, unpack_input
from tests.waiting import PATIENCE

END = object()
"""The result of a step that ends its connection."""


@dataclass(frozen=True)
class Connection:
    """What a server hears and says on one connection.

    Each step has one of these names. Numbers of inputs, ``seq`` and ``ack``, are those of docs/serving.md.

    - ``hears``: a text message, or ``[seq, ack, inputs]``.
    - ``says``: a text message, or ``[seq, outputs]``.
    - ``greeted``: hears ``restore`` with this ``ack``; with null, ``open``.
    - ``opens``: says ``opened`` with this ``seq``.
    - ``opening`` with a ``seq``, ``restoring`` with an ``ack`` (0 if not told) and a ``seq``: both of them.
    - ``closing``: hears ``close``, and says ``closed`` with this ``seq``.
    - ``spends``: takes so many steps from what the client may send.
    - ``refuses``: says ``error`` with this code and the step's ``message``, and ends the connection with the code.
    - ``closes``: ends the connection with this code, without a word.
    - ``drops``: cuts the connection.

    After the last step the client says nothing more and leaves, unless that step ends the connection.

    Args:
        steps: in their order.
        server: the number of the server.
        at_most: how often it may come, perhaps never; if not told, exactly once.
    """

    steps: Sequence[Mapping[str, Any]]
    server: int = 0
    at_most: Optional[int] = None


class Script:
    """The connections of a conversation, in their order.

    Args:
        opened: what the servers say of the model and of their limits.
        connections: the last one may come several times.
    """

    def __init__(self, opened: Mapping[str, Any], connections: Sequence[Connection]) -> None:
        self._opened, self._connections = opened, connections
        self._most = self._left = opened["rate"] * opened["burst_seconds"]  # steps that the client may send now
        self._left_since = time.monotonic()
        self._threads = list[threading.Thread]()
        self._faults = list[str]()

    def converse(self, server: int, peer: ServerConnection) -> None:
        """Keep to the script on a new connection to a server."""
        number, last = len(self._threads), self._connections[-1]
        self._threads.append(threading.current_thread())
        where = f"connection {number}"
        try:
            assert number < len(self._connections) - 1 + (last.at_most or 1), "expected no more connections"
            connection = self._connections[min(number, len(self._connections) - 1)]
            assert server == connection.server, f"expected at server {connection.server}, got at {server}"
            for step in connection.steps:
                where = f"connection {number}, {json.dumps(step)}"
                if getattr(self, f"_{next(iter(step))}")(peer, *step.values()) is END:
                    return
            where = f"connection {number}, the end"
            with suppress(ConnectionClosed):
                raise AssertionError(f"expected the client to leave, got {peer.recv(PATIENCE)!r}")
        except (AssertionError, ConnectionClosed, TimeoutError) as fault:
            self._faults.append(f"{where}: {fault}")

    def check(self) -> None:
        """Wait until the clients have left; all connections were as they should be."""
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "the client does not leave"
        assert not self._faults, "\n".join(self._faults)
        made = len(self._threads)
        wanted = len(self._connections) - (self._connections[-1].at_most is not None)
        assert made >= wanted, f"expected {wanted} connections, got {made}"

    def _hears(self, peer: ServerConnection, want: Any) -> None:
        message = peer.recv(PATIENCE)
        if isinstance(message, str):
            assert json.loads(message) == want, f"got {message}"
            steps = {"reset": 1, "snapshot": self._opened["max_frame"]}.get(want["type"], 0)
        else:
            seq, ack, payload = unpack_input(message)
            inputs = np.frombuffer(payload, "<f4").tolist()
            assert [seq, ack, inputs] == want, f"got {[seq, ack, inputs]}"
            steps = max(1, len(inputs))
        self._spends(peer, steps)
        assert self._left >= 0, f"the client is {-self._left} steps too fast"

    def _says(self, peer: ServerConnection, message: Any) -> None:
        if isinstance(message, dict):
            peer.send(json.dumps(message))
        else:
            seq, outputs = message
            peer.send(pack_result(Result(seq, np.array(outputs, "<f4").tobytes())))

    def _greeted(self, peer: ServerConnection, ack: Optional[int]) -> None:
        greeting = {"type": "open", "model": self._opened["model"], "format": self._opened["format"]}
        if ack is not None:
            greeting = {"type": "restore", "stream": self._opened["stream"], "ack": ack}
        self._hears(peer, {**greeting, "version": VERSION})

    def _opens(self, peer: ServerConnection, seq: int) -> None:
        self._spends(peer, 0)
        self._says(peer, {**self._opened, "seq": seq, "burst": self._left})

    def _opening(self, peer: ServerConnection, seq: int) -> None:
        self._greeted(peer, None)
        self._opens(peer, seq)

    def _restoring(self, peer: ServerConnection, stream: Mapping[str, int]) -> None:
        self._greeted(peer, stream.get("ack", 0))
        self._opens(peer, stream["seq"])

    def _closing(self, peer: ServerConnection, seq: int) -> object:
        self._hears(peer, {"type": "close"})
        self._says(peer, {"type": "closed", "seq": seq})
        return self._closes(peer, 1000)

    def _spends(self, peer: ServerConnection, steps: float) -> None:
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._left_since) * self._opened["rate"]) - steps
        self._left_since = now

    def _refuses(self, peer: ServerConnection, code: int, message: str = "no") -> object:
        self._says(peer, {"type": "error", "code": code, "message": message})
        return self._closes(peer, code)

    def _closes(self, peer: ServerConnection, code: int) -> object:
        peer.close(code)
        return END

    def _drops(self, peer: ServerConnection, yes: bool) -> object:
        peer.socket.shutdown(socket.SHUT_RDWR)
        return END


@contextmanager
def served(script: Script, servers: int = 1) -> Iterator[list[str]]:
    """The URLs of servers that keep to a script."""
    silent = logging.getLogger(f"{__name__}.silent")
    silent.disabled = True  # clients that leave during the handshake are no news
    with ExitStack() as held:
        urls = list[str]()
        for number in range(servers):
            server = held.enter_context(
                serve(partial(script.converse, number), "127.0.0.1", 0, compression=None, logger=silent)
            )
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            held.callback(thread.join)
            held.callback(server.shutdown)
            urls.append(f"ws://127.0.0.1:{server.socket.getsockname()[1]}")
        yield urls
