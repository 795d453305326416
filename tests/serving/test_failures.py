"""Errors of our own that end the work of a server: it logs them and leaves, so that another is started."""

import asyncio
import json
import socket
import subprocess
import sys
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
from tests.serving.servers import Wire, inputs, running, tagger_file
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
def test_a_server_whose_work_fails_leaves_and_says_why(
    break_: Callable[[Server, pytest.MonkeyPatch], None],
    meet: Callable[[int], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(service, "DRAIN_SECONDS", 0.2)  # passes that failed are waited for
    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = Service([tagger_file(tmp_path)], SQLiteStore(tmp_path / "s", 3600.0), Limits(), snapshot_seconds=0.01)
        server = Server(served, Tokens([]))
        break_(server, monkeypatch)
        peer = threading.Thread(target=meet, args=(listener.getsockname()[1],))
        peer.start()
        asyncio.run(asyncio.wait_for(server.serve([listener]), PATIENCE))
    peer.join()
    assert server.has_failed
    (said,) = [record for record in caplog.records if record.message == "an error ended the server's work"]
    assert said.exc_info is not None
    assert str(said.exc_info[1]) == "a bug of ours"


def test_work_that_fails_while_a_server_leaves_is_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        fail()

    async def drain(leaving: Service) -> None:
        leaving._tasks.append(asyncio.create_task(work()))
        await asyncio.wait(leaving._tasks[-1:])

    monkeypatch.setattr(Service, "drain", drain)
    with running([tagger_file(tmp_path)], tmp_path / "s"):
        pass
    assert [record.message for record in caplog.records] == ["an error ended the server's work"]


BROKEN = """
import asyncio, sys, time
from streamdrnn.apps.cli import main
from streamdrnn.apps.serving import service
from streamdrnn.apps.serving.sqlite_store import SQLiteStore

async def fail(service):
    while not service._live:
        await asyncio.sleep(0.01)
    raise OSError("a bug of ours")

service.DRAIN_SECONDS = 0.2
service.Service._end_idle = fail
SQLiteStore.save = lambda *_: time.sleep(1000)
main(["serve", *sys.argv[1:]])
"""


def test_a_process_whose_work_fails_ends_whatever_its_store_does(tmp_path: Path) -> None:
    options = ["--store", str(tmp_path / "s"), "--port", "0", "--log-format", "json"]
    command = [sys.executable, "-c", BROKEN, str(tagger_file(tmp_path)), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            with Wire(process.stdout.readline().split()[-1]) as wire:
                wire.open()
                _, said = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 1
    lines = [json.loads(line) for line in said.splitlines()]
    (error,) = [line for line in lines if line["level"] == "critical"]
    assert "OSError: a bug of ours" in error["traceback"]
