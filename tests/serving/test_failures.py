"""Errors of our own that end the work of a server: it leaves with a traceback, so that another is started."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamdrnn.apps.serving import service
from streamdrnn.apps.serving.door import Door
from streamdrnn.apps.serving.limits import Limits
from streamdrnn.apps.serving.server import Server
from streamdrnn.apps.serving.service import Service
from streamdrnn.apps.serving.sqlite_store import SQLiteStore
from streamdrnn.apps.serving.tokens import Tokens
from streamdrnn.client.protocol import Code
from tests.serving.raw import connected
from tests.serving.servers import Wire, inputs, tagger_file
from tests.waiting import PATIENCE


def fail(*_: Any) -> Any:
    raise OSError("a bug of ours")


def break_passes(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for model in server._service.models.values():
        monkeypatch.setattr(model.engine, "advance", fail)


def break_saving(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server._service._keeper, "problem", fail)  # asked after every save


def break_accepting(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def enter(_: Door, connection: socket.socket) -> None:
        connection.close()
        fail()

    monkeypatch.setattr(Door, "_enter", enter)


def push(port: int) -> None:
    """What breaks the passes, and what is to be saved."""
    with Wire(f"ws://127.0.0.1:{port}") as wire:
        wire.open()
        wire.send(1, inputs(4))
        told = dict[str, Any]()
        while told.get("type") != "error":
            message = wire.message()
            told = json.loads(message) if isinstance(message, str) else {}
        assert told["code"] == Code.SERVER_LEAVES


def come(port: int) -> None:
    with connected(port):
        pass


@pytest.mark.parametrize(
    ("break_", "meet"),
    [(break_passes, push), (break_saving, push), (break_accepting, come)],
    ids=["passes", "saving", "accepting"],
)
def test_a_server_whose_work_fails_leaves_with_its_traceback(
    break_: Callable[[Server, pytest.MonkeyPatch], None],
    meet: Callable[[int], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "DRAIN_SECONDS", 0.2)  # passes that failed are waited for
    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = Service([tagger_file(tmp_path)], SQLiteStore(tmp_path / "s", 3600.0), Limits(), snapshot_seconds=0.01)
        server = Server(served, Tokens([]))
        break_(server, monkeypatch)
        peer = threading.Thread(target=meet, args=(listener.getsockname()[1],))
        peer.start()
        with pytest.raises(RuntimeError, match="an error ended the server's work") as left:
            asyncio.run(asyncio.wait_for(server.serve([listener]), PATIENCE))
    peer.join()
    assert str(left.value.__cause__) == "a bug of ours"
