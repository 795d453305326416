"""What tests see of a server while strangers come."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from streamdrnn.apps.serving.websocket import BoundedWebSocket
from streamdrnn.client import connect
from tests.serving.servers import Running, assert_same, inputs, offline
from tests.waiting import PATIENCE, wait_for

SOON = 0.6


def wait_until_nobody_is_there(server: Running) -> None:
    server.wait_until_let_go()
    wait_for(lambda: not server.connections)


def status(server: Running, page: str = "readyz") -> int:
    try:
        with urllib.request.urlopen(f"{server.http}/{page}", timeout=PATIENCE) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@contextmanager
def others_go_on(server: Running, model: Path) -> Iterator[None]:
    """A stream that is open before, and whose results after are those that they would be without what happens."""
    x = inputs(8)
    with connect(server.url, "tagger", "features") as other:
        first = other.push(x[:4])
        yield
        assert_same(np.concatenate([first, other.push(x[4:])]), offline(model, x))


def websockets_of(server: Running) -> list[BoundedWebSocket]:
    return [one for one in server.connections if isinstance(one, BoundedWebSocket)]


def answer_handshakes_when(monkeypatch: pytest.MonkeyPatch, ready: Callable[[BoundedWebSocket], bool]) -> None:
    send = WebSocketsSansIOProtocol.send

    async def send_then(self: BoundedWebSocket, message: Any) -> None:
        while not ready(self) and not self.disconnected:
            await asyncio.sleep(0.01)
        await send(self, message)

    monkeypatch.setattr(WebSocketsSansIOProtocol, "send", send_then)
